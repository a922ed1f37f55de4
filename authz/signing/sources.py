"""Reads the private keys that the configuration lists, and reads files again when they change.

A key in a device or a service is opened by a thread of its own, because that may block for longer than any timeout: a
library that hangs must not keep the other keys from being rotated or withdrawn, nor a configuration from being loaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final

from authz.config.signing import KeyKind, SigningKey
from authz.facts.breaker import INITIAL_BACKOFF, MAX_BACKOFF
from authz.files.stamp import FileStamp
from authz.signing.local import MAX_KEY_BYTES, LocalSigner
from authz.signing.port import Failure, Signer, SigningUnavailable

log = logging.getLogger(__name__)

OPEN_SECONDS: Final = 10.0  # to wait for a key that is being opened; after that, only later steps check for it


@dataclass(frozen=True, slots=True)
class _OpenedKey:
    """A signer, the *section* that it was made from, and the *stamp* of its file, if it has one."""

    section: SigningKey
    stamp: FileStamp | None
    signer: Signer


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """A key that is not in this process: its configured *name* and *section*, and its *signer*."""

    name: str
    section: SigningKey
    signer: Signer


@dataclass(frozen=True, slots=True)
class _Backoff:
    """A key that could not be opened: it is not tried again before *until*, on the monotonic clock."""

    section: SigningKey
    seconds: float
    until: float
    text: str


class _StillOpening(SigningUnavailable):
    """Raised while a thread opens a key."""


class _Opening:
    """A key that a thread opens. Raises RuntimeError if no thread can be started."""

    def __init__(self, name: str, section: SigningKey, make: Callable[[SigningKey], Signer]) -> None:
        self.section: Final = section
        self._make: Final = make
        self._opened: Final[SimpleQueue[Signer | Exception]] = SimpleQueue()
        self._lock: Final = Lock()
        self._abandoned = False
        Thread(target=self._open, name=f"opening key {name}", daemon=True).start()

    def result(self, seconds: float) -> Signer:
        """Return the signer after *seconds* at most. Raises what opening it raised, and _StillOpening."""
        try:
            opened = self._opened.get(timeout=seconds)
        except Empty:
            raise _StillOpening("the device or service has not opened it yet", Failure.TIMEOUT) from None
        if isinstance(opened, Exception):
            raise opened
        return opened

    def abandon(self) -> None:
        """Close the signer once it is open."""
        opened: Signer | Exception | None = None
        with self._lock:
            self._abandoned = True
            with suppress(Empty):  # also if another thread has just taken it
                opened = self._opened.get_nowait()
        if opened is not None and not isinstance(opened, Exception):
            opened.close()

    def _open(self) -> None:
        try:
            opened: Signer | Exception = self._make(self.section)
        except Exception as error:  # noqa: BLE001 - `result` raises it
            opened = error
        with self._lock:
            if not self._abandoned:
                self._opened.put(opened)
                return
        if not isinstance(opened, Exception):
            opened.close()


class KeySources:
    """The signers of listed keys. A signer is kept while its section and file do not change.

    *remote* are those that may block, by key id. *problem* describes the first key that cannot be opened. After a
    failure, a device or service is not tried for a backoff that grows to MAX_BACKOFF seconds, because opening a key
    creates a new client each time. *monotonic* is a clock in seconds.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        make: Callable[[SigningKey], Signer] | None = None,
        *,
        open_seconds: float = OPEN_SECONDS,
    ) -> None:
        self._monotonic: Final = monotonic
        self._make: Final = make or make_signer
        self._open_seconds: Final = open_seconds
        self._opening: dict[str, _Opening] = {}
        self._backoffs: dict[str, _Backoff] = {}
        self.remote: Mapping[str, RemoteKey] = {}
        self.problem = ""
        self._known: dict[str, _OpenedKey] = {}
        self._failing: dict[str, str] = {}

    def read(self, sections: Mapping[str, SigningKey]) -> dict[str, Signer]:
        """Return the signers of all keys that can be opened, by key id, in the order of the configuration.

        A key that cannot be opened is logged once; its last signer is kept if its section is the same.
        """
        signers: dict[str, Signer] = {}
        remote: dict[str, RemoteKey] = {}
        for name, section in sections.items():
            before = self._known.get(name)
            stamp = FileStamp.of_any(section.file) if section.file is not None else None
            if before is None or before.section != section or before.stamp != stamp:
                try:
                    known = _OpenedKey(section, stamp, self._open(name, section))
                except SigningUnavailable as error:
                    self._record_failure(name, str(error))
                    if before is None or before.section != section:
                        continue
                    known = before
                else:
                    self._record_failure(name, "")
                self._known[name] = known
                before = known
            else:
                self._record_failure(name, "")
            signers.setdefault(before.signer.kid, before.signer)
            if not isinstance(before.signer, LocalSigner):
                remote[before.signer.kid] = RemoteKey(name, section, before.signer)
        for name in self._known.keys() - sections.keys():
            del self._known[name]
        for name in self._failing.keys() - sections.keys():
            del self._failing[name]
        for name, opening in list(self._opening.items()):
            if sections.get(name) != opening.section:
                self._opening.pop(name).abandon()
        self.remote = remote
        self.problem = next((f"key {name}: {text}" for name, text in self._failing.items() if text), "")
        return signers

    def _open(self, name: str, section: SigningKey) -> Signer:
        """Raises SigningUnavailable, also during a backoff."""
        before = self._backoffs.get(name)
        if before is not None and before.section != section:
            before = None
        now = self._monotonic()
        if before is not None and now < before.until:
            raise SigningUnavailable(before.text)
        self._backoffs.pop(name, None)
        try:
            return self._open_remote(name, section) if section.is_remote else self._make(section)
        except _StillOpening:
            raise
        except SigningUnavailable as error:
            if section.is_remote:
                seconds = min(MAX_BACKOFF, 2.0 * before.seconds) if before is not None else INITIAL_BACKOFF
                self._backoffs[name] = _Backoff(section, seconds, self._monotonic() + seconds, str(error))
            raise

    def _open_remote(self, name: str, section: SigningKey) -> Signer:
        """Raises SigningUnavailable, and _StillOpening while a thread opens the key."""
        opening, seconds = self._opening.get(name), 0.0
        if opening is None or opening.section != section:
            if opening is not None:
                opening.abandon()
            opening, seconds = _Opening(name, section, self._make), self._open_seconds
            self._opening[name] = opening
        try:
            signer = opening.result(seconds)
        except _StillOpening:
            raise
        except Exception:
            del self._opening[name]
            raise
        del self._opening[name]
        return signer

    def close(self) -> None:
        """Close all connections."""
        for opening in list(self._opening.values()):
            opening.abandon()
        for opened in list(self._known.values()):
            opened.signer.close()

    def _record_failure(self, name: str, text: str) -> None:
        if text and self._failing.get(name) != text:
            log.error("signing key %s: %s", name, text)
        self._failing[name] = text


def make_signer(section: SigningKey) -> Signer:
    """Return the signer of a listed key. Raises SigningUnavailable."""
    match section.kind:
        case KeyKind.FILE:
            return read_file(section)
        case KeyKind.MEMORY:
            return LocalSigner.generate(section.algorithm or "ES256", kid=section.kid)
        case _:
            from authz.signing.remote import open_remote_key  # noqa: PLC0415 - few have a remote key

            return open_remote_key(section)


def read_file(section: SigningKey) -> LocalSigner:
    """Read the private key in the file of *section*. Raises SigningUnavailable, without a part of the key."""
    path: Final = Path(section.file or "")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise SigningUnavailable(f"{path}: {error.strerror}", Failure.MISCONFIGURED) from None
    if len(data) > MAX_KEY_BYTES:
        raise SigningUnavailable(f"{path}: more than {MAX_KEY_BYTES} bytes", Failure.MISCONFIGURED)
    try:
        return LocalSigner.read(data, section.algorithm, kid=section.kid)
    except ValueError as error:
        raise SigningUnavailable(f"{path}: {error}", Failure.MISCONFIGURED) from None
