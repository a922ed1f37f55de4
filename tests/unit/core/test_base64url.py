"""Proves authz.core.base64url."""

from __future__ import annotations

from binascii import Error, a2b_base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core import base64url

PAIRS = {
    b"": b"",
    b"f": b"Zg",
    b"fo": b"Zm8",
    b"foo": b"Zm9v",
    b"foob": b"Zm9vYg",
    b"foW": b"Zm9X",
    b"\xfb\xff\xfe": b"-__-",  # the two characters that tell base64url from base64
}
REFUSED = {
    "padded": b"Zg==",
    "half-padded": b"Zg=",
    "padding-alone": b"==",
    "plain-base64-alphabet": b"+//+",
    "unused-bits-set": b"Zh",
    "unused-bits-set-in-two-octets": b"Zm9",
    "one-character": b"Z",
    "length-of-one-more-than-a-multiple": b"Zm9vY",
    "foreign-characters": b"Zm!!!!9v",
    "space-inside": b"Zm 9v",
    "newline-at-the-end": b"Zm9v\n",
    "nul": b"Zm9v\0",
    "not-ascii": "Zm9ü".encode(),
}


@pytest.mark.parametrize(("raw", "text"), PAIRS.items())
def test_both_ways(raw: bytes, text: bytes) -> None:
    """Bytes are written without padding, and read back (RFC 4648 section 10, without its padding)."""
    assert base64url.encode(raw) == text
    assert base64url.decode(text) == raw


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_only_the_canonical_form_is_read(text: bytes) -> None:
    """Whatever a forgiving decoder would take for the same bytes is refused."""
    with pytest.raises(ValueError, match="base64url"):
        base64url.decode(text)


OCTETS = tuple(bytes((number,)) for number in range(256))
FROM_URL = bytes.maketrans(b"-_", b"+/")


@given(st.binary(max_size=64).map(base64url.encode), st.binary(max_size=4))
def test_what_is_read_is_what_would_be_written(text: bytes, end: bytes) -> None:
    """A text is accepted if, and only if, it is what is written of that which a forgiving decoder reads."""
    for changed in (text, text + end, end + text, *(text[:-1] + last for last in OCTETS)):
        read = read_forgivingly(changed)
        if read is not None and base64url.encode(read) == changed:
            assert base64url.decode(changed) == read
        else:
            with pytest.raises(ValueError, match="base64url"):
                base64url.decode(changed)


def read_forgivingly(text: bytes) -> bytes | None:
    """Decode as the standard library does, or return None."""
    try:
        return a2b_base64(text.translate(FROM_URL) + b"==")
    except Error:
        return None
