"""Times for people: how long something takes, and how long ago it was."""

from __future__ import annotations


def span(seconds: float) -> str:
    """Write a duration in its largest unit."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def ago(instant: float, now: float) -> str:
    """Write how long before *now* an *instant* was, both in Unix seconds; a clock that differs makes no future."""
    return f"{span(now - instant)} ago" if now - instant >= 1 else "now"
