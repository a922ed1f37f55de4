"""The JSON documents that issuers publish: key sets and discovery.

As strict as `strictjson` in what counts as JSON, and generous in what surrounds it: a byte order mark is skipped
(RFC 8259 section 8.1). What is no JSON is called by its name, for the operator who has to find out.
"""

from __future__ import annotations

import re
from typing import Final

from authz.core.strictjson import parse_json

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SHOWN_CHARS: Final = 60
_KINDS: Final = (
    ("empty", re.compile(rb"\s*\Z")),
    ("HTML", re.compile(rb"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)),
    ("XML", re.compile(rb"\s*<")),
    ("PEM", re.compile(rb"\s*-----BEGIN ")),
    ("a signed token (compact JWS)", re.compile(rb"\s*eyJ[\w-]+\.[\w-]+\.")),
    ("compressed by gzip", re.compile(rb"\x1f\x8b")),
    ("UTF-16, not UTF-8", re.compile(rb"\xff\xfe|\xfe\xff|\{\0|\0\{")),
)
_JSON_START: Final = re.compile(rb"\s*[\[{\"]")


def parse_document(data: bytes, *, max_containers: int, quote: bool = True) -> dict[str, object]:
    """Parse *data*, a JSON object with or without a byte order mark.

    Raises ValueError, which says what *data* is instead, and with *quote* how it begins. Whoever reads a file that may
    hold a secret does not quote it.
    """
    text = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = parse_json(text, max_containers=max_containers)
    except ValueError as error:
        raise ValueError(_name(text, len(data), error, quote=quote)) from None
    if not isinstance(value, dict):
        kind = "array" if isinstance(value, list) else "value that is no object"
        raise ValueError(f"the answer is a JSON {kind}, {len(data):,} bytes")  # noqa: TRY004 - bad data
    return value


def _name(text: bytes, size: int, error: ValueError, *, quote: bool) -> str:
    """Say what *text* is, which is not JSON for that *error*."""
    kind = next((kind for kind, pattern in _KINDS if pattern.match(text)), None)
    if kind is None and _JSON_START.match(text):
        why = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        return f"the answer is no usable JSON, {size:,} bytes: {why}"
    if kind == "empty":
        return f"the answer is empty, {size:,} bytes"
    shown = f", beginning with {_begin(text)}" if kind in {"HTML", "XML"} or (kind is None and quote) else ""
    return f"the answer is {kind or 'no JSON'}, {size:,} bytes{shown}"


def _begin(text: bytes) -> str:
    """Show the first characters, on one line."""
    words = text[: 4 * _SHOWN_CHARS].decode("utf-8", "replace").split()
    return repr(" ".join(words)[:_SHOWN_CHARS])
