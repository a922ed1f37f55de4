"""What a supervisor passes to a worker: its `server` section, and the last good configuration.

A restarted worker must not depend on the current file, which may be invalid or missing while the other workers use the
last good configuration. The worker starts with that one too, and its own file watch then detects the difference.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from authz.config.load import parse, read_text
from authz.config.model import Config, Server
from authz.config.problems import ConfigError
from authz.files.stamp import FileStamp
from authz.files.watch import FileWatch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a configuration file, and the file's stamp from before it was read."""

    text: str
    stamp: FileStamp | None

    @classmethod
    def read(cls, file: Path, watch: FileWatch) -> Self:
        """Read *file*, whose stamp *watch* has taken before. Raises ConfigError."""
        stamp = watch.stamp
        return cls(read_text(file), stamp)


@dataclass(frozen=True, slots=True)
class Handover:
    """The *source* to start with, and the `server` section that the supervisor started with."""

    source: Source
    server: Server

    def config(self, file: Path) -> Config:
        """Return the configuration of a worker; *file* is its name in messages. Raises ConfigError.

        The `server` section is always the supervisor's: another one would not match the worker's address, and could
        open a port to the network without TLS.
        """
        return parse(self.source.text, file=str(file)).model_copy(update={"server": self.server})

    def to_descriptor(self) -> int:
        """Write it to a memory file; return the file's descriptor, positioned at the start. Raises OSError."""
        stamp = self.source.stamp
        content = {
            "server": self.server.model_dump(mode="json"),
            "stamp": None if stamp is None else asdict(stamp),
            "text": self.source.text,
        }
        descriptor = os.memfd_create("handover")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(json.dumps(content).encode())
            os.lseek(descriptor, 0, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @classmethod
    def from_descriptor(cls, descriptor: int) -> Self:
        """Read what `to_descriptor` wrote, and close the descriptor."""
        with open(descriptor, "rb") as file:
            content = json.loads(file.read())
        stamp = None if content["stamp"] is None else FileStamp(**content["stamp"])
        return cls(Source(content["text"], stamp), Server.model_validate(content["server"]))


class LastGood:
    """The last valid configuration of a file, by the same checks as in the workers."""

    def __init__(self, file: Path, watch: FileWatch, source: Source) -> None:
        """*source* is known to be valid."""
        self._file: Final = file
        self._watch: Final = watch
        self.source = source

    def update(self) -> None:
        """Read the file again, and keep its content if it is valid. The workers log the errors."""
        try:
            source = Source.read(self._file, self._watch)
            parse(source.text, file=str(self._file))
        except ConfigError:
            return
        except Exception:  # an unexpected error must not end the reload thread
            log.exception("configuration not read, the last one stays")
            return
        self.source = source
        log.info("a restarted worker will start with the new configuration")
