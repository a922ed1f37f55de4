"""The freshness lifetime of a response, and Retry-After (RFC 9111 section 4.2, RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_LISTS: Final = frozenset({"cache-control"})  # the list-based ones of the headers that are used here
_DIRECTIVE: Final = re.compile(r'([a-z-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,;]+)))?', re.IGNORECASE)
_SECONDS: Final = re.compile(r"[0-9]{1,20}")


def read_headers(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of a response by lower-case name, from its header *lines* in order.

    Lines of a list-based header are joined (RFC 9110 section 5.3). Of any other header the first line counts, as RFC
    9111 specifies for `Age` (section 5.1) and `Expires` (section 4.2.1).
    """
    headers: dict[str, str] = {}
    for name, value in lines:
        name = name.lower()  # noqa: PLW2901 - only the lower-case name is used
        if name not in headers:
            headers[name] = value
        elif name in _LISTS:
            headers[name] = f"{headers[name]}, {value}"
    return headers


def fresh_for(headers: Mapping[str, str]) -> float | None:
    """Return how long a response stays fresh after its arrival, in seconds; None if it does not specify this.

    `no-store`, `no-cache`, a lifetime of 0 and an `Expires` in the past count as unspecified: they require validation
    (RFC 9111 section 5.2.2.4), but do not tell how often the document changes. `max-age` takes precedence over
    `s-maxage` (this is not a shared cache), and both over `Expires`. Of a repeated directive the first one counts
    (section 4.2.1).
    """
    directives: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(headers.get("cache-control", "")):
        directives.setdefault(match[1].lower(), match[2] or match[3] or "")
    lifetime = None if "no-store" in directives or "no-cache" in directives else _lifetime(directives, headers)
    if not lifetime or lifetime < 0.0:
        return None
    age = _seconds(headers.get("age", "").partition(",")[0]) or 0.0  # of several the first (section 5.1)
    return max(0.0, lifetime - age)


def _lifetime(directives: Mapping[str, str], headers: Mapping[str, str]) -> float | None:
    """Return the freshness lifetime in seconds, None if it is absent or invalid (section 4.2.1)."""
    for name in ("max-age", "s-maxage"):
        if name in directives:
            return _seconds(directives[name])
    expires, date = _instant(headers.get("expires")), _instant(headers.get("date"))
    return expires - date if expires is not None and date is not None else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds in `Retry-After`, None if it is absent or invalid (RFC 9110 section 10.2.3).

    A date is compared with the response's own `Date`, because our wall clock may be wrong; without `Date`, with *now*.
    """
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    instant, date = _instant(value), _instant(headers.get("date"))
    return None if instant is None else max(0.0, instant - (now if date is None else date))


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and _SECONDS.fullmatch(text.strip()) else None


def _instant(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text) if text is not None else None
    except (ValueError, TypeError, IndexError, OverflowError):  # what the parser raises for invalid dates
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
