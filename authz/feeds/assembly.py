"""Build one issuer's feed from its section of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from authz.config.issuer import Fetch as FetchSection
from authz.config.issuer import Issuer as IssuerSection
from authz.core.keys import KeySet
from authz.feeds.discovery import discovery_url
from authz.feeds.fetch import Fetcher
from authz.feeds.jwks import KeyFeed, Schedule
from authz.feeds.sources import Discovery, DiscoverySource, FileSource, KeySource, UrlSource
from authz.feeds.trust import Trust

FILE_INTERVAL: Final = 1.0  # seconds between two looks at a key file


def make_feed(
    name: str,
    section: IssuerSection,
    *,
    publish: Callable[[KeySet | None], None],
    monotonic: Callable[[], float],
    jitter: Callable[[], float],
    fly: Callable[[Callable[[], None]], None],
) -> KeyFeed | None:
    """Return the feed of the issuer configured as *name*; None where its keys are written in the file itself."""
    if section.jwks is not None:
        return None
    return KeyFeed(
        name,
        _make_source(section, monotonic),
        schedule=_make_schedule(section),
        publish=lambda keys: publish(keys.block(section.blocked_keys) if keys is not None else None),
        monotonic=monotonic,
        jitter=jitter,
        fly=fly,
    )


def _make_source(section: IssuerSection, monotonic: Callable[[], float]) -> KeySource:
    fetch = section.fetch
    if section.jwks_file is not None:
        return FileSource(Path(section.jwks_file), max_bytes=fetch.max_bytes, max_keys=fetch.max_keys)
    fetcher = Fetcher(
        _make_trust(section),
        timeout=fetch.timeout.total_seconds(),
        max_bytes=fetch.max_bytes,
        ca_file=fetch.ca_file,
        bearer_token_file=fetch.bearer_token_file,
    )
    if section.jwks_uri is not None:
        uri = section.jwks_uri
        return UrlSource(fetcher.get, lambda: uri, max_keys=fetch.max_keys)
    discovery = Discovery(
        fetcher.get,
        section.discovery_url or discovery_url(section.issuer),
        issuer=section.issuer,
        every=fetch.max_interval.total_seconds(),
        monotonic=monotonic,
    )
    return DiscoverySource(discovery, fetcher.get, max_keys=fetch.max_keys)


def _make_trust(section: IssuerSection) -> Trust:
    urls = (section.jwks_uri,) if section.jwks_uri else (section.discovery_url, section.issuer)
    return Trust(
        written=frozenset(host for url in urls if url and (host := urlsplit(url).hostname)),
        listed=frozenset(host.lower() for host in section.fetch.allowed_hosts),
        networks=tuple(ip_network(network) for network in section.fetch.allowed_networks),
        http=section.insecure.http,
    )


def _make_schedule(section: IssuerSection) -> Schedule:
    fetch: FetchSection = section.fetch
    watched = section.jwks_file is not None
    interval = FILE_INTERVAL if watched else fetch.interval.total_seconds()
    return Schedule(
        interval=interval,
        min_interval=min(interval, fetch.min_interval.total_seconds()),
        max_interval=fetch.max_interval.total_seconds(),
        cooldown=fetch.cooldown.total_seconds(),
        max_wait=fetch.max_wait.total_seconds(),
        max_stale=fetch.max_stale.total_seconds(),
    )
