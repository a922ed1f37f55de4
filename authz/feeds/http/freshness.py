"""How long a fetched document may be used, by the words of its answer (RFC 9111 section 4.2, RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_LISTS: Final = frozenset({"cache-control"})  # of the headers that are read here
_DIRECTIVE: Final = re.compile(r'([a-z-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,;]+)))?', re.IGNORECASE)
_SECONDS: Final = re.compile(r"[0-9]{1,20}")


def read_headers(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of an answer, names in lower case, from its *lines*: name and value of each, in their order.

    Lines of a list are one list (RFC 9110 section 5.3). Of any other header the first line counts, as RFC 9111 wants it
    of `Age` (section 5.1) and `Expires` (section 4.2.1).
    """
    headers: dict[str, str] = {}
    for name, value in lines:
        name = name.lower()  # noqa: PLW2901 - the one spelling that is used
        if name not in headers:
            headers[name] = value
        elif name in _LISTS:
            headers[name] = f"{headers[name]}, {value}"
    return headers


def fresh_for(headers: Mapping[str, str]) -> float | None:
    """Return the seconds for which an answer is still fresh on arrival, or None where it does not say.

    `no-store`, `no-cache`, a lifetime of 0 and an `Expires` that lies in the past ask caches not to serve an answer
    without a look (RFC 9111 section 5.2.2.4); they do not say how often the document changes. `max-age` counts before
    `s-maxage` (this is no shared cache), both before `Expires`. Of a directive that is repeated the first counts
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
    """Return the seconds from the making of an answer to its end; None where they cannot be read (section 4.2.1)."""
    for name in ("max-age", "s-maxage"):
        if name in directives:
            return _seconds(directives[name])
    expires, date = _instant(headers.get("expires")), _instant(headers.get("date"))
    return expires - date if expires is not None and date is not None else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that `Retry-After` asks for, None where it does not (RFC 9110 section 10.2.3).

    An instant is counted from the server's own `Date`: our wall clock, *now*, may be wrong, and counts without one.
    """
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    at, date = _instant(value), _instant(headers.get("date"))
    return None if at is None else max(0.0, at - (now if date is None else date))


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and _SECONDS.fullmatch(text.strip()) else None


def _instant(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text) if text is not None else None
    except (ValueError, TypeError, IndexError, OverflowError):  # the parser's answers to a date that is none
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
