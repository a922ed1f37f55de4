"""Build one issuer's feed from its section of the configuration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from authz.config.issuer import Fetch
from authz.config.issuer import Issuer as IssuerSection
from authz.core.keys import KeySet
from authz.feeds.discovery import discovery_url
from authz.feeds.failure import RefreshError
from authz.feeds.feed import Feed
from authz.feeds.http.connect import Dialer, Proxy, Resolve, resolve
from authz.feeds.http.fetch import Fetcher, Response
from authz.feeds.http.tls import UNREADABLE, ClientCertificate, TlsTrust, digest_of
from authz.feeds.http.trust import Network, Trust, read_origin
from authz.feeds.key_cache import KeyCache
from authz.feeds.key_history import KeyHistory
from authz.feeds.key_lane import KeyFeed
from authz.feeds.ports import FeedEnv
from authz.feeds.refresh import Schedule
from authz.feeds.sources import DiscoverySource, DiscoveryTimes, FileSource, KeySetReader, KeySource, UrlSource
from authz.feeds.union import UnionSource
from authz.telemetry.keys import IssuerKeyMetrics, Refresh

FILE_INTERVAL: Final = 1.0  # seconds between two checks of a key file
FILE_RETRY: Final = 5.0  # seconds at most until an invalid file is read again


def make_feed(  # noqa: PLR0913 - one for each neighbour
    name: str,
    section: IssuerSection,
    *,
    publish: Callable[[KeySet | None], None],
    env: FeedEnv,
    metrics: IssuerKeyMetrics,
    on_change: Callable[[KeySet | None], None] = lambda _: None,
    resolve: Resolve = resolve,
    metadata: str | None = None,
) -> KeyFeed | None:
    """Return the feed of the issuer configured as *name*; None if its keys are in the configuration itself.

    *metadata* is as for `make_source`.
    """
    if section.jwks is not None:
        return None
    history = KeyHistory(name, metrics, on_change=on_change)
    feed = Feed(
        name,
        make_source(section, now=env.now, monotonic=env.monotonic, resolve=resolve, metadata=metadata),
        schedule=_make_schedule(section),
        publish=publish,
        env=env,
        observer=history,
        cache=_make_cache(name, section, env.now),
    )
    return KeyFeed(feed, history)


def make_reader(section: IssuerSection) -> KeySetReader:
    """Return the reader of the key sets of one issuer."""
    return KeySetReader(
        max_bytes=section.fetch.max_bytes,
        max_keys=section.fetch.max_keys,
        local=section.jwks_file is not None,
        x5c_mismatch=section.insecure.x5c_mismatch,
        blocked=tuple(section.blocked_keys),
    )


def make_source(
    section: IssuerSection,
    *,
    now: Callable[[], float],
    monotonic: Callable[[], float],
    resolve: Resolve = resolve,
    metadata: str | None = None,
) -> KeySource:
    """Return the source of the keys of one issuer whose keys are not in the configuration itself.

    *metadata* is the URL of a document that names its keys in place of the discovery document, if it is there.
    """
    fetch = section.fetch
    reader = make_reader(section)
    if section.jwks_file is not None:
        return FileSource(Path(section.jwks_file).absolute(), reader)
    dialer = make_dialer(section, resolve=resolve)
    make_one = partial(make_fetcher, section, dialer, now=now)
    if section.jwks_uri is not None:
        return UrlSource(make_one().get, section.jwks_uri, reader)
    if section.jwks_uris:
        return UnionSource(
            # One fetcher for each URL: a name resolution that hangs does not delay the other URLs.
            [UrlSource(make_one().get, url, reader) for url in section.jwks_uris],
            reader,
            max_stale=fetch.max_stale.total_seconds(),
            monotonic=monotonic,
            now=now,
        )
    discovery, fetch_one = section.discovery_url or discovery_url(section.discovery_base), make_one().get
    return DiscoverySource(
        fetch_one if metadata is None else partial(_fetch_with_fallback, fetch_one, {metadata: discovery}),
        metadata or discovery,
        reader,
        issuer=section.issuer,
        times=DiscoveryTimes(
            interval=fetch.max_interval.total_seconds(),
            on_demand_interval=fetch.min_interval.total_seconds(),
            max_stale=fetch.max_stale.total_seconds(),
        ),
        monotonic=monotonic,
    )


def _fetch_with_fallback(
    fetch: Callable[[str, Mapping[str, str]], Response],
    fallbacks: Mapping[str, str],
    url: str,
    headers: Mapping[str, str],
) -> Response:
    """Fetch *url*, or its URL in *fallbacks* if the server has no such document. Raises RefreshError."""
    try:
        return fetch(url, headers)
    except RefreshError as error:
        if url not in fallbacks or error.result is not Refresh.STATUS:
            raise
        return fetch(fallbacks[url], headers)


def make_dialer(section: IssuerSection, *, resolve: Resolve = resolve) -> Dialer:
    """Return the dialer for the servers of one issuer."""
    fetch = section.fetch
    return Dialer(
        trust=_make_trust(section),
        tls=TlsTrust(fetch.ca_file, ClientCertificate.configured(fetch.client_cert_file, fetch.client_key_file)),
        proxy=_make_proxy(fetch),
        resolve=resolve,
    )


def make_fetcher(section: IssuerSection, dialer: Dialer, *, now: Callable[[], float] = time.time) -> Fetcher:
    """Return the fetcher for the documents of one issuer."""
    fetch = section.fetch
    return Fetcher(
        dialer,
        timeout=fetch.timeout.total_seconds(),
        max_bytes=fetch.max_bytes,
        bearer_token_file=fetch.bearer_token_file,
        now=now,
    )


def _make_trust(section: IssuerSection) -> Trust:
    key_urls = (section.jwks_uri,) if section.jwks_uri else section.jwks_uris
    urls = key_urls or (section.discovery_url, section.issuer)
    origins = (read_origin(urlsplit(url)) for url in urls if url)
    return Trust(
        configured_origins=frozenset(origin for origin in origins if origin[1]),
        allowed_hosts=frozenset(host.lower() for host in section.fetch.allowed_hosts),
        networks=_networks(section.fetch),
        http=section.insecure.http,
    )


def _networks(fetch: Fetch) -> tuple[Network, ...]:
    return tuple(ip_network(network) for network in fetch.allowed_networks)


def _make_proxy(fetch: Fetch) -> Proxy | None:
    if fetch.proxy is None:
        return None
    _, host, port = read_origin(urlsplit(fetch.proxy))
    return Proxy(host, port, networks=_networks(fetch), credentials_file=fetch.proxy_credentials_file)


def _make_schedule(section: IssuerSection) -> Schedule:
    fetch = section.fetch
    times = {
        "cooldown": fetch.cooldown.total_seconds(),
        "max_wait": fetch.max_wait.total_seconds(),
        "max_stale": fetch.max_stale.total_seconds(),
    }
    if section.jwks_file is not None:
        return Schedule(
            interval=FILE_INTERVAL, min_interval=FILE_INTERVAL, max_interval=FILE_RETRY, max_backoff=FILE_RETRY, **times
        )
    return Schedule(
        interval=fetch.interval.total_seconds(),
        min_interval=fetch.min_interval.total_seconds(),
        max_interval=fetch.max_interval.total_seconds(),
        **times,
    )


def _make_cache(name: str, section: IssuerSection, now: Callable[[], float]) -> KeyCache | None:
    """Return the cache for fetched keys; None for a local file."""
    if section.cache_dir is None or section.jwks_file is not None:
        return None
    return KeyCache(
        Path(section.cache_dir),
        name,
        fingerprint=partial(trust_fingerprint, section),
        authorities=partial(current_authorities, section),
        max_age=section.fetch.max_stale.total_seconds(),
        max_bytes=section.fetch.max_bytes * max(1, 2 * len(section.jwks_uris)),  # a union is JSON within JSON
        now=now,
    )


def trust_fingerprint(section: IssuerSection, authorities: str) -> str:
    """Return a digest of all settings that the trust in fetched keys depends on, with the CA digest *authorities*."""
    fetch = section.fetch
    settings = (
        section.issuer,
        section.discovery_url,
        section.jwks_uri,
        *section.jwks_uris,
        section.jwks_file,
        sorted(fetch.allowed_hosts),
        sorted(fetch.allowed_networks),
        fetch.proxy,
        authorities,
        section.insecure.http,  # the other insecure options apply to tokens, or when the set is read again
    )
    return sha256(json.dumps(settings).encode()).hexdigest()


def may_adopt_keys(section: IssuerSection, before: IssuerSection, authorities: str) -> bool:
    """Return whether keys that were fetched for *before* under *authorities* may be used for *section*."""
    current = current_authorities(section)
    if current == UNREADABLE and section.fetch.ca_file == before.fetch.ca_file:
        current = authorities  # the same file, now unreadable: that is no reason to drop good keys
    return trust_fingerprint(section, current) == trust_fingerprint(before, authorities)


def current_authorities(section: IssuerSection) -> str:
    """Return the digest of the certificate authorities that are trusted for an issuer now."""
    return digest_of(section.fetch.ca_file) if section.jwks_file is None else ""
