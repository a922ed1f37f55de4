"""Remove the caller's token from the request to the upstream, from all token sources (`token.forward: false`)."""

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
    """The changes that remove all tokens: headers to overwrite and to remove, and query parameters to remove."""

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    drop_query: tuple[str, ...] = ()


def strip_credentials(request: Request, sources: tuple[Source, ...]) -> StrippedCredentials:
    """Return the changes that remove the tokens from all *sources*.

    A token header that Envoy did not send us is removed too; one with credentials of another scheme stays.
    """
    remove = [source.header for source in sources if isinstance(source, HeaderSource) and _may_hold(request, source)]
    names = tuple(source.cookie for source in sources if isinstance(source, CookieSource))
    rewritten = _without_cookies(request, names) if names else None
    if rewritten == "":
        remove.append("cookie")
    return StrippedCredentials(
        (("cookie", rewritten),) if rewritten else (),
        tuple(dict.fromkeys(remove)),
        tuple(
            query.parameter for query in sources if isinstance(query, QuerySource) and _has_parameter(request, query)
        ),
    )


def _has_parameter(request: Request, source: QuerySource) -> bool:
    """Return whether the query may contain the parameter, by Envoy's rules: percent-decoded, after `&` or `?`.

    Only then is it removed: Envoy rebuilds the query even if the parameter is absent. `flag` becomes `flag=`, the order
    changes, and signed URLs break.
    """
    query = request.path.partition("?")[2]
    if query.count("&") >= MAX_PARAMETERS:
        return True
    return any(unquote(pair.partition("=")[0]) == source.parameter for pair in query.split("&"))


def _without_cookies(request: Request, names: tuple[str, ...]) -> str | None:
    """Return the cookie header without the cookies in *names*; None if there is nothing to remove.

    The result is empty, which removes the header, if Envoy did not send the header to us or if it has MAX_COOKIES
    cookies in *names*. A cookie may also begin after a comma, with which Envoy joins two Cookie fields of HTTP/1.1.
    """
    header = request.headers.get("cookie", "")
    remaining, removed = _cookies(names).subn(_separator, ";" + header, count=MAX_COOKIES)
    if not header or removed == MAX_COOKIES:
        return ""
    return remaining.replace(";,", ";").strip("; ,\t") if removed else None


@lru_cache(maxsize=16)
def _cookies(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern of a cookie with one of these *names*, with the separator before it."""
    return re.compile(rf"([;,])[ \t]*(?:{'|'.join(map(re.escape, names))})[ \t]*(?:=[^;,]*)?(?=([;,]|$))")


def _separator(removed: re.Match[str]) -> str:
    """Return the separator that replaces the *removed* cookie: a comma never replaces a semicolon."""
    return ";" if removed[1] == ";" and removed[2] == "," else ""


def _may_hold(request: Request, source: HeaderSource) -> bool:
    value = request.headers.get(source.header)
    if value is None or not source.scheme or value.count(",") >= MAX_CREDENTIALS:
        return True
    return any(has_scheme(part.lstrip(), source.scheme) for part in value.split(","))
