"""JSON with one reading only (RFC 8259, and I-JSON, RFC 7493, where parsers are known to differ).

Refused beside what the grammar refuses: bytes that are not UTF-8, a byte order mark, duplicate members, NaN and
infinity (also as 1e400), lone surrogates, numbers and nesting beyond a bound.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn

MAX_DEPTH: Final = 32  # nested arrays and objects
MAX_NUMBER_CHARS: Final = 64

# Possessive, and content with a missing end quote: one pass over any input, where backtracking would make it quadratic.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def parse_json(data: bytes) -> object:
    """Parse *data*, a whole JSON text. Raises ValueError."""
    text = data.decode("utf-8")  # UnicodeDecodeError is a ValueError
    _check_depth(data)
    value = _DECODER.decode(text)
    if b"\\u" in data:
        # An escaped lone surrogate ("\ud800") has no UTF-8 form; whoever passes it on would fail later, elsewhere.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def parse_object(data: bytes) -> dict[str, object]:
    """Parse *data*, a JSON text that must be an object. Raises ValueError."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - bad data, not a caller's wrong type
    return value


def _check_depth(data: bytes) -> None:
    """Refuse deep nesting before the recursive parser meets it."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for char in _STRING.sub(b"", data):
        if char in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
        elif char in b"]}":
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


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_no_constant
)
