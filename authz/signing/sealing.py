"""Encrypts the keys for a store that others may read or write, with authentication: changes are detected.

AES-256-GCM (NIST SP 800-38D) with a random nonce, under a key that HKDF (RFC 5869) derives from a secret in a file. The
name under which a value is stored is authenticated too (AAD): the value is not accepted under another name.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from authz.files.stamp import FileStamp

MIN_SECRET: Final = 32  # octets
MAX_SECRET: Final = 65_536
_FORMAT: Final = b"\x01"
_NONCE: Final = 12  # octets
_PURPOSE: Final = b"authz signing state 1"


class Sealer:
    """Encrypts with the secret in *file*, which is read again when it changes.

    The previous secret decrypts until a value under the new one was read, and not longer: it may be compromised.
    """

    def __init__(self, file: Path) -> None:
        self._file: Final = file
        self._stamp: FileStamp | None = None
        self._key = b""
        self._ciphers: tuple[AESGCM, ...] = ()

    def __repr__(self) -> str:
        return f"Sealer({self._file})"

    def seal(self, text: bytes, place: str) -> bytes:
        """Encrypt *text*, which is to be stored at *place*. Raises OSError, ValueError."""
        nonce = secrets.token_bytes(_NONCE)
        return _FORMAT + nonce + self._read()[0].encrypt(nonce, text, place.encode())

    def open(self, sealed: bytes, place: str) -> tuple[bytes, bool]:
        """Decrypt what was stored at *place*; also return whether it was encrypted with the current secret.

        Raises OSError, and ValueError if it was encrypted with another secret, or changed.
        """
        ciphers = self._read()
        start = len(_FORMAT) + _NONCE
        if sealed[: len(_FORMAT)] == _FORMAT:
            for cipher in ciphers:
                try:
                    text = cipher.decrypt(sealed[len(_FORMAT) : start], sealed[start:], place.encode())
                except (InvalidTag, ValueError):
                    continue
                is_current = cipher is ciphers[0]
                if is_current:
                    self._ciphers = ciphers[:1]
                return text, is_current
        raise ValueError("not encrypted by this secret, or changed")

    def _read(self) -> tuple[AESGCM, ...]:
        """Return the ciphers, the current one first. Raises OSError, ValueError."""
        stamp = FileStamp.of_any(self._file)
        if stamp is None or stamp != self._stamp:
            with self._file.open("rb") as file:
                secret = file.read(MAX_SECRET)
            if len(secret) < MIN_SECRET:
                raise ValueError(f"{self._file}: has less than {MIN_SECRET} octets")
            key = HKDF(SHA256(), 32, None, _PURPOSE).derive(secret)
            if key != self._key:  # a file that was only written again has no new secret: the one before still decrypts
                self._key, self._ciphers = key, (AESGCM(key), *self._ciphers[:1])
            self._stamp = stamp
        return self._ciphers
