"""Make text that a client chose fit for a log line."""

from __future__ import annotations

from typing import Final

MAX_CHARS: Final = 200


def printable(text: str | None) -> str | None:
    """Return *text* cut to MAX_CHARS, each character outside printable ASCII escaped, so that it forges no line."""
    if not text:
        return text
    cut = text[:MAX_CHARS]
    safe = cut.encode("ascii", "backslashreplace").decode("ascii")
    if not safe.isprintable():
        safe = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in safe)
    return safe if len(text) <= MAX_CHARS else safe + "..."
