"""Reads the private keys that the configuration lists, and reads files again when they change."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.config.signing import KeyKind, SigningKey
from authz.facts.breaker import INITIAL_BACKOFF, MAX_BACKOFF
from authz.files.stamp import FileStamp
from authz.signing.local import MAX_KEY_BYTES, LocalSigner
from authz.signing.port import Failure, Signer, SigningUnavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _OpenedKey:
    """A signer, the *section* that it was made of, and the *stamp* of its file, if it has one."""

    section: SigningKey
    stamp: FileStamp | None
    signer: Signer


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """A key that is not in this process: its configured *name* and *section*, and the *signer* that asks for it."""

    name: str
    section: SigningKey
    signer: Signer


@dataclass(frozen=True, slots=True)
class _Backoff:
    """A key that could not be opened: it is not tried *until* then, on the monotonic clock."""

    section: SigningKey
    seconds: float
    until: float
    text: str


class KeySources:
    """The signers of listed keys. One whose section and file are as before stays.

    *remote* are those that may block, by key id. A device or service that fails is left alone for a while, which grows
    to MAX_BACKOFF seconds: opening a key costs a new client each time. *monotonic* is a clock in seconds.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        make: Callable[[SigningKey], Signer] | None = None,
    ) -> None:
        self._monotonic: Final = monotonic
        self._make: Final = make or make_signer
        self._backoffs: dict[str, _Backoff] = {}
        self.remote: Mapping[str, RemoteKey] = {}
        self._known: dict[str, _OpenedKey] = {}
        self._failing: dict[str, str] = {}

    def read(self, sections: Mapping[str, SigningKey]) -> dict[str, Signer]:
        """Return the signers of all keys that can be had, by key id, in the order of the configuration.

        A key that cannot be had is logged once; its last signer stays if its section is the same.
        """
        found: dict[str, Signer] = {}
        remote: dict[str, RemoteKey] = {}
        for name, section in sections.items():
            before = self._known.get(name)
            stamp = FileStamp.of_any(section.file) if section.file is not None else None
            if before is None or before.section != section or before.stamp != stamp:
                try:
                    known = _OpenedKey(section, stamp, self._open(name, section))
                except SigningUnavailable as error:
                    self._note(name, str(error))
                    if before is None or before.section != section:
                        continue
                    known = before
                else:
                    self._note(name, "")
                self._known[name] = known
                before = known
            found.setdefault(before.signer.kid, before.signer)
            if not isinstance(before.signer, LocalSigner):
                remote[before.signer.kid] = RemoteKey(name, section, before.signer)
        for name in self._known.keys() - sections.keys():
            del self._known[name]
        self.remote = remote
        return found

    def _open(self, name: str, section: SigningKey) -> Signer:
        """Raises SigningUnavailable, also while the source of the key is left alone."""
        before = self._backoffs.get(name)
        if before is not None and before.section != section:
            before = None
        now = self._monotonic()
        if before is not None and now < before.until:
            raise SigningUnavailable(before.text)
        self._backoffs.pop(name, None)
        try:
            return self._make(section)
        except SigningUnavailable as error:
            if section.is_remote:
                seconds = min(MAX_BACKOFF, 2.0 * before.seconds) if before is not None else INITIAL_BACKOFF
                self._backoffs[name] = _Backoff(section, seconds, self._monotonic() + seconds, str(error))
            raise

    def close(self) -> None:
        """Close all connections."""
        for known in self._known.values():
            known.signer.close()

    def _note(self, name: str, text: str) -> None:
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
