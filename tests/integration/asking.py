"""How tests of this folder ask a server about tokens, and for decisions: on loopback, by given names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from authz.core.introspection import Introspection, introspection_need
from authz.core.needs import Need
from authz.feeds.http.client_auth import ClientAuth, ClientSecretBasicFile
from authz.feeds.http.connect import Dialer
from authz.feeds.http.post import Poster
from authz.feeds.http.trust import Trust, read_origin
from authz.feeds.introspection import IntrospectionSource, IntrospectionTtl
from authz.feeds.oauth_client import Endpoint
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import T
from tests.integration.fetching import make_fetcher, resolve_here

INTROSPECT = "/introspect"


def make_poster(url: str, *, timeout: float = HANG_SECONDS, max_bytes: int = 65_536) -> Poster:
    """Make a poster for the server of *url*."""
    trust = Trust(configured_origins=frozenset({read_origin(urlsplit(url))}), http=True)
    return Poster(Dialer(trust=trust, resolve=resolve_here), timeout=timeout, max_bytes=max_bytes)


_MADE: Final[list[IntrospectionSource]] = []


def close_sources() -> None:
    """Close the connections of all sources that a test made."""
    while _MADE:
        _MADE.pop().close()


def make_source(
    url: str,
    auth: ClientAuth,
    *,
    endpoint: Endpoint | None = None,
    signed_for: str | None = None,
    timeout: float = HANG_SECONDS,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> IntrospectionSource:
    """Make the source that asks at *url*."""
    fixed = Endpoint(
        url,
        fetch=make_fetcher(url, http=True).get,
        discovery_url="",
        issuer="",
        refresh_interval=1.0,
        monotonic=monotonic,
    )
    source = IntrospectionSource(
        make_poster(url, timeout=timeout),
        endpoint or fixed,
        auth,
        ttl=IntrospectionTtl(active=60.0, inactive=5.0),
        signed_for=signed_for,
        now=lambda: float(T),
        monotonic=monotonic,
    )
    _MADE.append(source)
    return source


def about(token: str = "XMQdFed_ds5t") -> Need:
    """The need for what an issuer says of *token*."""
    return introspection_need(token, "a", Introspection(client="rs", source="here"))


def endpoint_of(idp: FakeIdp) -> str:
    """Where a fake provider is asked."""
    return f"{idp.url}{INTROSPECT}"


def secret(folder: object, text: str = "rs-secret") -> ClientSecretBasicFile:
    """The credentials of `rs`, in a file."""
    file = f"{folder}/secret"
    with open(file, "w", encoding="utf-8") as sink:  # noqa: PTH123 - a path of any kind
        sink.write(text + "\n")
    return ClientSecretBasicFile("rs", file)
