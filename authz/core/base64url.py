"""base64url without padding, in its one canonical form (RFC 7515 section 2, RFC 4648 sections 3.5 and 5)."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from typing import Final

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")


def encode(raw: bytes) -> bytes:
    """Encode *raw* without padding."""
    return b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL)


def decode(text: bytes) -> bytes:
    """Decode *text*, accepting only what `encode` writes.

    `a2b_base64` also accepts padding, characters outside the alphabet, and non-zero unused bits. Comparing with the
    encoded result rejects these, so that each value has exactly one encoding.

    Raises ValueError.
    """
    try:
        raw = a2b_base64(text.translate(_FROM_URL) + b"==")
    except Error as error:
        raise ValueError("not base64url") from error
    if encode(raw) != text:
        raise ValueError("not canonical base64url")
    return raw
