"""Remove the caller's token from the request to the upstream, wherever it was (`token.forward: false`)."""

from __future__ import annotations

from dataclasses import dataclass
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
    names = {source.cookie for source in sources if isinstance(source, CookieSource)}
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


def _without_cookies(request: Request, names: set[str]) -> str | None:
    """Return the rest of the cookie header, as it was written; None if there is nothing to remove."""
    header = request.headers.get("cookie", "")
    if header.count(";") + header.count(",") >= MAX_COOKIES:
        return ""  # no browser sends so many: remove them all rather than forward a token
    pairs = [pair.strip(" \t") for pair in header.split(";")]
    kept = [_without(pair, names) for pair in pairs]
    return None if header and kept == pairs else "; ".join(filter(None, kept))


def _without(pair: str, names: set[str]) -> str:
    """Remove cookies of these names from the text between two semicolons, where Envoy may have joined with commas."""
    parts = pair.split(",")
    return ",".join(part for part in parts if part.partition("=")[0].strip(" \t") not in names)


def _may_hold(request: Request, source: HeaderSource) -> bool:
    value = request.headers.get(source.header)
    if value is None or not source.scheme or value.count(",") >= MAX_CREDENTIALS:
        return True
    return any(has_scheme(part.lstrip(), source.scheme) for part in value.split(","))
