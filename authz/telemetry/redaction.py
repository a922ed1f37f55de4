"""Escape untrusted text for log lines.

`printable` is for text from clients, which may contain tokens anywhere: they are redacted. `escaped` is for public text
such as key ids and thumbprints, which operators copy into a configuration: it is not redacted.
"""

from __future__ import annotations

import codecs
import re
from base64 import urlsafe_b64decode
from typing import Final

MAX_CHARS: Final = 200


def printable(text: str | None, max_chars: int = MAX_CHARS) -> str | None:
    """Return *text* escaped and truncated to *max_chars*, with each token in it replaced."""
    if not text or (
        len(text) <= max_chars
        and text.isascii()
        and text.isprintable()
        and "ey" not in text
        and "ew" not in text  # no token begins otherwise
    ):
        return text
    return _escape(_replace_tokens(text[:max_chars])) + _ellipsis(text, max_chars)


def escaped(text: str | None) -> str | None:
    """Return *text* truncated to MAX_CHARS, with everything but printable ASCII escaped."""
    if not text:
        return text
    return _escape(text[:MAX_CHARS]) + _ellipsis(text, MAX_CHARS)


def _ellipsis(text: str, max_chars: int) -> str:
    return "..." if len(text) > max_chars else ""


def _escape(text: str) -> str:
    safe = text.encode("ascii", "backslashreplace").decode("ascii")
    if safe.isprintable():
        return safe
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in safe)


# The base64url of the start of a JSON object, `{"` or `{` and white space, and the rest of the token.
_TOKEN: Final = re.compile(r"(e(?:y[A-DI-L]|w[k-r0-3])[A-Za-z0-9_-]{13})[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)*")
_INVALID_IN_JSON: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def _replace_tokens(text: str) -> str:
    redacted, start = "", 0
    while (match := _TOKEN.search(text, start)) is not None:
        if _begins_json(match[1]):
            redacted, text, start = redacted + text[: match.start()] + "[token]", text[match.end() :], 0
        else:
            start = match.start() + 1
    return redacted + text


def _begins_json(encoded: str) -> bool:
    """Return whether 16 characters of base64url can begin JSON text (RFC 8259); a hash or a random id cannot."""
    try:
        # An incremental decoder, because the last character may be incomplete.
        text = codecs.getincrementaldecoder("utf-8")().decode(urlsafe_b64decode(encoded))
    except UnicodeDecodeError:
        return False
    return _INVALID_IN_JSON.search(text) is None
