"""Durations and sizes, each an integer and its unit."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from authz.config.problems import quote

DURATION_PATTERN: Final = r"^[0-9]{1,9}(ms|s|m|h)$"
SIZE_PATTERN: Final = r"^[0-9]{1,9}(KiB|MiB)$"

_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_SIZE: Final = re.compile(r"([0-9]{1,9})(KiB|MiB)")
_UNITS: Final = {
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_BYTES: Final = {"MiB": 1024 * 1024, "KiB": 1024}


def parse_duration(text: object) -> timedelta:
    """Read `250ms`, `30s`, `5m` or `1h`. Raises ValueError for anything else."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be a duration such as 250ms, 30s, 5m or 1h, not {quote(text)}")
    return int(match[1]) * _UNITS[match[2]]


def parse_size(text: object) -> int:
    """Read `16KiB` or `1MiB` as a number of bytes. Raises ValueError for anything else."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be a size such as 16KiB or 1MiB, not {quote(text)}")
    return int(match[1]) * _BYTES[match[2]]


def format_duration(duration: timedelta) -> str:
    """Format a duration in the largest unit that gives an integer: the inverse of `parse_duration`."""
    if not duration:
        return "0s"
    unit = next(unit for unit, length in _UNITS.items() if not duration % length)
    return f"{duration // _UNITS[unit]}{unit}"


def format_size(size: int) -> str:
    """Format a number of bytes in the largest unit that gives an integer: the inverse of `parse_size`."""
    unit = "MiB" if size and not size % _BYTES["MiB"] else "KiB"
    return f"{size // _BYTES[unit]}{unit}"
