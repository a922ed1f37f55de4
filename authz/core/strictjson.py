"""Unambiguous JSON (RFC 8259, and I-JSON, RFC 7493, where parsers are known to differ).

Rejected in addition to what the grammar rejects: bytes that are not UTF-8, a byte order mark, duplicate members, NaN
and infinity (also as 1e400), lone surrogates, numbers that are too long, too many values, and too deep nesting.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn

MAX_DEPTH: Final = 32  # nested arrays and objects
MAX_CONTAINERS: Final = 1024  # arrays and objects in one text, by default
COMMAS_PER_CONTAINER: Final = 4  # commas per array or object
MAX_NUMBER_CHARS: Final = 40

# Possessive quantifiers and an optional end quote: linear time for any input; backtracking would make it quadratic.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# Text without an escaped lone surrogate: plain text, surrogate pairs, other escapes.
_PAIRED: Final = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)*+", re.DOTALL
)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_DIGITS_AS_ZEROS: Final = bytes(0x30 if byte in b"0123456789" else 0x20 for byte in range(256))
_LONG_DIGITS: Final = b"0" * MAX_NUMBER_CHARS


def parse_json(data: bytes, *, max_containers: int = MAX_CONTAINERS) -> object:
    """Parse *data*, a whole JSON text of at most *max_containers* arrays and objects. Raises ValueError."""
    text = data.decode("utf-8")  # UnicodeDecodeError is a ValueError
    _check_shape(data, max_containers)
    # The slower decoder, which checks the length of integers, is used only if there are that many digits in a row. A
    # regular expression for the digits would take ten times as long as this.
    decoder = _DECODER_OF_LONG_INTEGERS if _LONG_DIGITS in data.translate(_DIGITS_AS_ZEROS) else _DECODER
    if text[:1] == "{" and text[-1:] == "}":  # fast path: no whitespace at either end
        value, end = decoder.raw_decode(text)
        if end != len(text):
            raise ValueError("more than one value")
    else:
        value = decoder.decode(text)
    if b"\\u" in data and not _PAIRED.fullmatch(data):
        # An escaped lone surrogate ("\ud800") has no UTF-8 form; encoding it would fail later.
        raise ValueError("lone surrogate")
    return value


def parse_object(data: bytes, *, max_containers: int = MAX_CONTAINERS) -> dict[str, object]:
    """Parse *data*, a JSON text that must be an object. Raises ValueError."""
    value = parse_json(data, max_containers=max_containers)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - bad data, not a caller's wrong type
    return value


def _check_shape(data: bytes, max_containers: int) -> None:
    """Reject deep nesting and too many values before the recursive parser reads them."""
    max_commas = COMMAS_PER_CONTAINER * max_containers
    if data.count(b",") > max_commas:
        raise ValueError(f"{data.count(b',')} commas, at most {max_commas}")
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    if len(brackets) > 2 * max_containers:
        raise ValueError(f"{len(brackets) // 2} arrays and objects, at most {max_containers}")
    depth = 0
    for char in brackets:
        if char in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
        else:
            depth -= 1


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError("number too long")
    return int(text)


def _finite(text: str) -> float:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError("number too long")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
_DECODER_OF_LONG_INTEGERS: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_no_constant
)
