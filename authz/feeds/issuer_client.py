"""The client of an issuer's endpoints: their URLs, connections to them, and the client authentication."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import urlsplit

from authz.config.introspection import Client
from authz.config.issuer import Issuer
from authz.feeds.build_feed import make_dialer, make_fetcher
from authz.feeds.discovery import discovery_url
from authz.feeds.http.cached_credentials import CachedCredentials
from authz.feeds.http.client_auth import (
    BearerTokenFile,
    ClientAuth,
    ClientSecretBasicFile,
    NoAuth,
    PrivateKeyJwt,
    TlsClientAuth,
)
from authz.feeds.http.connect import Resolve
from authz.feeds.http.post import Poster
from authz.feeds.http.trust import read_origin
from authz.feeds.oauth_client import Endpoint


def make_issuer_poster(issuer: Issuer, url: str | None, *, timeout: float, max_bytes: int, resolve: Resolve) -> Poster:
    """Return a poster to the servers of *issuer* whose URLs are configured, and to that of *url*."""
    dialer = make_dialer(issuer, resolve=resolve)
    if url is not None:
        origins = dialer.trust.configured_origins | {read_origin(urlsplit(url))}
        dialer = replace(dialer, trust=replace(dialer.trust, configured_origins=origins))
    # Credentials and tokens go to configured servers only: a document alone does not name another.
    dialer = replace(dialer, trust=replace(dialer.trust, allowed_hosts=frozenset()))
    return Poster(dialer, timeout=timeout, max_bytes=max_bytes)


def make_issuer_endpoint(
    issuer: Issuer, url: str | None, *, member: str = "introspection_endpoint", resolve: Resolve
) -> Endpoint:
    """Return the endpoint of *issuer*: *url*, or the *member* of its discovery document."""
    return Endpoint(
        url,
        fetch=make_fetcher(issuer, make_dialer(issuer, resolve=resolve)).get,
        discovery_url=issuer.discovery_url or discovery_url(issuer.discovery_base),
        issuer=issuer.issuer,
        refresh_interval=issuer.fetch.max_interval.total_seconds(),
        monotonic=time.monotonic,
        member=member,
    )


def make_issuer_auth(client: Client, issuer: Issuer) -> ClientAuth:
    """Return the authentication of *client* at *issuer*."""
    name = client.id or ""
    if client.secret_file is not None:
        return CachedCredentials(ClientSecretBasicFile(name, client.secret_file))
    if client.private_key_file is not None:
        return PrivateKeyJwt(name, client.private_key_file, issuer.issuer, client.key_id, client.algorithm)
    if client.bearer_token_file is not None:
        return CachedCredentials(BearerTokenFile(client.bearer_token_file))
    return TlsClientAuth(name) if client.mtls else NoAuth()
