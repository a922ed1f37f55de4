"""base64url without padding, in its one canonical form (RFC 7515 section 2, RFC 4648 sections 3.5 and 5)."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import Final

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# The valid last characters of a final group of two or three: four or two of their six bits are unused, and are zero.
_LAST: Final = (b"", b"", _ALPHABET[::16], _ALPHABET[::4])


def encode(raw: bytes) -> bytes:
    """Encode *raw* without padding."""
    return b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL)


def decode(text: bytes) -> bytes:
    """Decode *text*, accepting only what `encode` writes: each value has exactly one encoding.

    `a2b_base64` also accepts padding, characters outside the alphabet, and non-zero unused bits of the last character.

    Raises ValueError.
    """
    rest = len(text) % 4  # characters in an incomplete final group
    if rest == 1:
        raise ValueError("not base64url")
    if text.translate(None, _ALPHABET) or (rest and text[-1] not in _LAST[rest]):
        raise ValueError("not canonical base64url")
    return a2b_base64(text.translate(_FROM_URL) + b"==")
