"""NumericDate: how tokens say a time, in seconds since the epoch (RFC 7519 section 2)."""

from __future__ import annotations

from typing import Final, TypeGuard

MAX_NUMERIC_DATE: Final = 100_000_000_000  # the year 5138. As milliseconds it is in 1973


def is_numeric_date(value: object) -> TypeGuard[float]:
    """Return whether a JSON value is a number of seconds from 0 to MAX_NUMERIC_DATE, never a boolean."""
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= MAX_NUMERIC_DATE
