"""Keep the caller's token from the upstream, wherever it stood (`token.forward: false`)."""

from __future__ import annotations

from dataclasses import dataclass

from authz.core.request import Request
from authz.core.token import CookieSource, HeaderSource, QuerySource, Source, cookies, has_scheme


@dataclass(frozen=True, slots=True)
class Withheld:
    """Headers to overwrite, names to remove and query parameters to drop so that no token goes on."""

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    drop_query: tuple[str, ...] = ()


def withhold_tokens(request: Request, sources: tuple[Source, ...]) -> Withheld:
    """Return what must change so that the upstream sees none of the tokens that *sources* could hold.

    A header that Envoy did not show us is removed all the same; one with credentials of another scheme stays.
    """
    remove = [source.header for source in sources if isinstance(source, HeaderSource) and _may_hold(request, source)]
    names = {source.cookie for source in sources if isinstance(source, CookieSource)}
    rewritten = None
    if names:
        kept = [(name, value) for name, value in cookies(request) if name not in names]
        rewritten = "; ".join(f"{name}={value}" for name, value in kept)
        if not rewritten:
            remove.append("cookie")
    return Withheld(
        (("cookie", rewritten),) if rewritten else (),
        tuple(remove),
        tuple(source.parameter for source in sources if isinstance(source, QuerySource)),
    )


def _may_hold(request: Request, source: HeaderSource) -> bool:
    value = request.headers.get(source.header)
    return (
        value is None or not source.scheme or any(has_scheme(part.lstrip(), source.scheme) for part in value.split(","))
    )
