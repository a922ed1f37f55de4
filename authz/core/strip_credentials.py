"""Remove the caller's token from the request to the upstream, wherever it was (`token.forward: false`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from authz.core.request import Request
from authz.core.token import (
    MAX_COOKIES,
    MAX_CREDENTIALS,
    MAX_PARAMETERS,
    CookieSource,
    HeaderSource,
    QuerySource,
    Source,
    has_scheme,
)


@dataclass(frozen=True, slots=True)
class StrippedCredentials:
    """Headers to overwrite, names to remove and query parameters to drop, so that no token is forwarded."""

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    drop_query: tuple[str, ...] = ()


def strip_credentials(request: Request, sources: tuple[Source, ...]) -> StrippedCredentials:
    """Return the changes by which the upstream sees no token from any of *sources*.

    A header that Envoy did not show us is removed all the same; one with credentials of another scheme stays.
    """
    remove = [source.header for source in sources if isinstance(source, HeaderSource) and _may_hold(request, source)]
    names = tuple(source.cookie for source in sources if isinstance(source, CookieSource))
    rewritten = _without_cookies(request, names) if names else None
    if rewritten == "":
        remove.append("cookie")
    return StrippedCredentials(
        (("cookie", rewritten),) if rewritten else (),
        tuple(dict.fromkeys(remove)),
        tuple(source.parameter for source in sources if isinstance(source, QuerySource) and _is_asked(request, source)),
    )


def _is_asked(request: Request, source: QuerySource) -> bool:
    """Tell whether the query may hold the parameter, as Envoy reads it: percent-decoded, behind `&` or the `?`.

    Envoy rebuilds a query from which it removes something, also if nothing was there: `flag` becomes `flag=`, the order
    changes, and signed URLs break.
    """
    query = request.path.partition("?")[2]
    if query.count("&") >= MAX_PARAMETERS:
        return True
    return any(unquote(pair.partition("=")[0]) == source.parameter for pair in query.split("&"))


def _without_cookies(request: Request, names: tuple[str, ...]) -> str | None:
    """Return the rest of the cookie header, as it was written; None if there is nothing to remove.

    Nothing is left of a header that Envoy did not show us. A cookie begins behind each comma too: Envoy joins two
    Cookie fields of HTTP/1.1 by one. Cookies of other names may hold any number of commas; a request with MAX_COOKIES
    of ours loses them all.
    """
    header = request.headers.get("cookie", "")
    rest, removed = _cookies(names).subn(_separator, ";" + header, count=MAX_COOKIES)
    if not header or removed == MAX_COOKIES:
        return ""
    return rest.replace(";,", ";").strip("; ,\t") if removed else None


@lru_cache(maxsize=16)
def _cookies(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern of a cookie of one of these *names*, with the separator before it."""
    return re.compile(rf"([;,])[ \t]*(?:{'|'.join(map(re.escape, names))})[ \t]*(?:=[^;,]*)?(?=([;,]|$))")


def _separator(removed: re.Match[str]) -> str:
    """Return what separates the cookies around the one that was *removed*: a comma never replaces a semicolon."""
    return ";" if removed[1] == ";" and removed[2] == "," else ""


def _may_hold(request: Request, source: HeaderSource) -> bool:
    value = request.headers.get(source.header)
    if value is None or not source.scheme or value.count(",") >= MAX_CREDENTIALS:
        return True
    return any(has_scheme(part.lstrip(), source.scheme) for part in value.split(","))
