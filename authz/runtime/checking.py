"""Check a configuration: in this process, or as a child of a process that serves (`authz.runtime.loading`)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from authz.config.diagnostics.warnings import count_insecure, warnings
from authz.config.load import parse
from authz.config.settings import RESTART_REQUIRED
from authz.config.text import read_text
from authz.runtime.loaded import Loaded, pack
from authz.tooling.envoy_config.requirements import requirements_of

_SOCKET: Final = 0  # file descriptor
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_KILLED_FIRST: Final = "1000"


def check(text: str, *, file: str) -> Loaded:
    """Check *text*; *file* is its name in messages. Raises ConfigError with all problems."""
    config = parse(text, file=file)
    return Loaded(
        config=config,
        warnings=tuple(warnings(config)),
        insecure_options=count_insecure(config),
        restart_required=RESTART_REQUIRED,
        headers=frozenset(requirements_of(config).written),
    )


def check_file(file: Path) -> Loaded:
    """Read and check *file*. Raises ConfigError."""
    return check(read_text(file), file=str(file))


def main(file: str, *, niceness: int = 0) -> None:
    """Read a text from the socket that is our stdin, check it, and answer there.

    With *niceness*, processes that serve get more of the CPU time than this one.
    """
    os.nice(niceness)
    with suppress(OSError):  # if the memory of the container ends, this process is killed and not one that serves
        _OOM_SCORE.write_text(_KILLED_FIRST)
    with socket.socket(fileno=_SOCKET) as parent, parent.makefile("rb") as stream:
        parent.sendall(_check_and_pack(stream.read().decode(), file))
        os._exit(os.EX_OK)  # to free all memory first would take as long as to check


def _check_and_pack(text: str, file: str) -> bytes:
    try:
        return pack(check(text, file=file))
    except Exception as error:  # noqa: BLE001 - the parent prints or logs it
        return pack(error)
