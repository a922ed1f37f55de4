"""The handover of a supervisor to a worker: its `server` section, and the last good configuration, already checked.

A restarted worker must not depend on the current file, which may be invalid or missing while the other workers use the
last good configuration. The worker starts with that one too, and its own file watch then detects the difference.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from authz.config.model import Server
from authz.config.problems import ConfigError
from authz.config.text import read_text
from authz.files.stamp import FileStamp
from authz.files.watch import FileWatch
from authz.runtime.loaded import CheckFailedError, Loaded, unpack, unpickle
from authz.runtime.loading import Check
from authz.runtime.process import ConnectedChild

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A checked configuration, as `unpack` reads it, and the stamp of its file from before it was read."""

    packed: bytes = field(repr=False)
    stamp: FileStamp | None

    @classmethod
    def read(
        cls,
        file: Path,
        watch: FileWatch,
        *,
        child: ConnectedChild | None = None,
        meanwhile: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Read *file*, whose stamp *watch* has taken before, and have *child* check it, or a process that is started.

        *meanwhile* is called with the text. The configuration may be invalid: `load` says so. Raises ConfigError,
        CheckFailedError, OSError.
        """
        stamp = watch.stamp
        text = read_text(file)
        with Check(str(file), child=child) as check:
            return cls(check.run(text, meanwhile=lambda: meanwhile(text)), stamp)

    def load(self, *, rules: bool = True) -> Loaded:
        """Return the configuration, without its rules unless *rules* is true. Raises ConfigError, CheckFailedError."""
        return unpack(self.packed, rules=rules)


@dataclass(frozen=True, slots=True)
class Handover:
    """The *source* to start with, and the `server` section that the supervisor started with."""

    source: Source
    server: Server

    def load(self) -> Loaded:
        """Return the configuration of a worker. Raises CheckFailedError.

        The `server` section is always the supervisor's: another one would not match the worker's address, and could
        open a port to the network without TLS.
        """
        loaded = self.source.load()
        return replace(loaded, config=loaded.config.model_copy(update={"server": self.server}))

    def to_descriptor(self) -> int:
        """Write it to a memory file; return the file's descriptor, positioned at the start. Raises OSError."""
        descriptor = os.memfd_create("handover")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(pickle.dumps(self))
            os.lseek(descriptor, 0, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @classmethod
    def from_descriptor(cls, descriptor: int) -> Self:
        """Read what `to_descriptor` wrote, and close the descriptor. Raises CheckFailedError."""
        with open(descriptor, "rb") as file:
            handover = unpickle(file.read())
        if not isinstance(handover, cls):
            raise CheckFailedError("what the supervisor passed is no configuration")
        return handover


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
            source.load(rules=False)
        except ConfigError:
            return
        except Exception:  # an unexpected error must not end the reload thread
            log.exception("configuration not read, the last one stays")
            return
        self.source = source
        log.info("a restarted worker will start with the new configuration")
