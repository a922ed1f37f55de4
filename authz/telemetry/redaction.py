"""Make text that a client chose fit for a log line."""

from __future__ import annotations

import re
from typing import Final

MAX_CHARS: Final = 200

# How a JSON object begins in base64url, `{"` or `{` and white space, and all that follows it in a token.
_TOKEN: Final = re.compile(r"e(?:y[A-DI-L]|w[k-r0-3])[A-Za-z0-9_-]{13,}(?:\.[A-Za-z0-9_-]*)*")


def printable(text: str | None) -> str | None:
    """Return *text* cut to MAX_CHARS, each character outside printable ASCII escaped, so that it forges no line.

    What looks like a token is replaced: clients put them into paths, too.
    """
    if not text:
        return text
    safe = _TOKEN.sub("[token]", text[:MAX_CHARS]).encode("ascii", "backslashreplace").decode("ascii")
    if not safe.isprintable():
        safe = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in safe)
    return safe if len(text) <= MAX_CHARS else safe + "..."
