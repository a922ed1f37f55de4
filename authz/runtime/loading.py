"""Let a child process check a configuration.

Rules of this file:
1. The text is read here, after its stamp was taken. The child opens no file of the configuration.
2. The child may take _MAX_SECONDS; it is killed afterwards, and with this process, whatever ends it.
3. A child that ends without an answer is a separate error (`CheckFailedError`), never a valid configuration.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final, Self

from authz.config.text import read_text
from authz.runtime.loaded import MAX_BYTES, CheckFailedError, Loaded, unpack
from authz.runtime.process import ConnectedChild, interpreter, start_child

_COMMAND: Final = "_check"  # of authz.__main__
_MAX_SECONDS: Final = 600.0  # a file of 4 MiB takes ten seconds of CPU time, and a start may have little of it
_CHUNK: Final = 1024 * 1024  # octets


def load(file: Path, *, pause: Callable[[], None]) -> Loaded:
    """Read *file*, and let a child check it; *pause* is called often. Raises ConfigError, CheckFailedError, OSError."""
    text = read_text(file)
    with Check(str(file)) as check:
        packed = check.run(text)
    return unpack(packed, pause=pause)


class Check:
    """A child process that checks one configuration."""

    def __init__(
        self,
        file: str,
        command: Sequence[str] | None = None,
        *,
        child: ConnectedChild | None = None,
        max_seconds: float = _MAX_SECONDS,
    ) -> None:
        """Start it, unless *child* is this process; *file* is the name of the configuration in messages.

        Raises OSError.
        """
        self._file: Final = file
        self._max_seconds: Final = max_seconds
        self._deadline: Final = time.monotonic() + max_seconds
        argv = [*(command or [*interpreter(), _COMMAND]), file]
        self._child: Final = start_child(argv, socket.SOCK_STREAM) if child is None else child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.socket.close()
        os.close(self._child.lifeline)
        self._child.process.send(signal.SIGKILL)
        self._child.process.wait(self._max_seconds)  # so that no zombie is left

    def run(self, text: str, *, meanwhile: Callable[[], None] = lambda: None) -> bytes:
        """Return the checked *text* as `authz.runtime.loaded.unpack` reads it. Raises CheckFailedError.

        *meanwhile* is called while the child works.
        """
        self._child.socket.settimeout(self._max_seconds)
        # A long text waits until the child reads.
        Thread(target=self._send, args=(text.encode(),), name="send-configuration", daemon=True).start()
        meanwhile()
        try:
            packed = self._receive()
            status = self._child.process.wait(self._deadline - time.monotonic())
            if status is None:
                raise TimeoutError
        except TimeoutError:
            raise CheckFailedError(self._describe(f"did not end within {self._max_seconds:g} s")) from None
        if status:
            raise CheckFailedError(self._describe(_explain(status)))
        return packed

    def _send(self, text: bytes) -> None:
        with suppress(OSError):  # then the child has ended, or is killed: its status says why
            self._child.socket.sendall(text)
            self._child.socket.shutdown(socket.SHUT_WR)

    def _receive(self) -> bytes:
        """Return all that the child writes until its end. Raises TimeoutError, CheckFailedError."""
        received = bytearray()
        while (left := self._deadline - time.monotonic()) > 0:
            self._child.socket.settimeout(left)
            try:
                chunk = self._child.socket.recv(_CHUNK)
            except ConnectionResetError:  # it had not read all of the text
                chunk = b""
            if not chunk:
                return bytes(received)
            received += chunk
            if len(received) > MAX_BYTES:
                raise CheckFailedError(self._describe(f"answered with more than {MAX_BYTES} octets"))
        raise TimeoutError

    def _describe(self, cause: str) -> str:
        return f"{self._file} could not be checked: the process that checks it {cause}"


def _explain(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed, probably because the memory of this container or host was used up"
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
