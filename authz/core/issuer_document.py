"""Parse the JSON documents that issuers publish: key sets and discovery documents.

The JSON itself is parsed strictly; only a byte order mark is ignored (RFC 8259 section 8.1). For anything else, the
error message names the format that the document has instead.
"""

from __future__ import annotations

import re
from typing import Final

from authz.core.strictjson import parse_json

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_EXCERPT_CHARS: Final = 60
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

    Raises ValueError, which names the actual format, and with *quote* includes the first characters. Files may hold
    secrets: they must not be quoted.
    """
    text = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = parse_json(text, max_containers=max_containers)
    except ValueError as error:
        raise ValueError(_describe(text, len(data), error, quote=quote)) from None
    if not isinstance(value, dict):
        kind = "array" if isinstance(value, list) else "value that is not an object"
        raise ValueError(f"the document is a JSON {kind}, {len(data):,} bytes")  # noqa: TRY004 - bad data
    return value


def _describe(text: bytes, size: int, error: ValueError, *, quote: bool) -> str:
    """Describe *text*, which is not JSON because of *error*."""
    kind = next((kind for kind, pattern in _KINDS if pattern.match(text)), None)
    if kind is None and _JSON_START.match(text):
        why = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        return f"the document is not usable JSON, {size:,} bytes: {why}"
    if kind == "empty":
        return f"the document is empty, {size:,} bytes"
    excerpt = f", beginning with {_excerpt(text)}" if kind in {"HTML", "XML"} or (kind is None and quote) else ""
    return f"the document is {kind or 'not JSON'}, {size:,} bytes{excerpt}"


def _excerpt(text: bytes) -> str:
    """Return the first characters, on one line."""
    words = text[: 4 * _EXCERPT_CHARS].decode("utf-8", "replace").split()
    return repr(" ".join(words)[:_EXCERPT_CHARS])
