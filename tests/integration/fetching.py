"""How tests of this folder fetch: names that resolve as configured, a CA of the test's own, a short deadline."""

from __future__ import annotations

import ssl
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from authz.feeds.failure import RefreshError
from authz.feeds.http.connect import Dialer, Proxy, Resolve
from authz.feeds.http.fetch import Fetcher
from authz.feeds.http.tls import TlsTrust
from authz.feeds.http.trust import Trust, read_origin
from authz.telemetry.keys import Refresh
from tests.fakes.waiting import HANG_SECONDS

HERE = "127.0.0.1"
SHORT = 0.3  # seconds: what a fetch has that must run into its deadline


def resolve_here(host: str, port: int) -> list[str]:
    """Every name is this host."""
    return [HERE]


def make_fetcher(
    *urls: str,
    timeout: float = HANG_SECONDS,
    max_bytes: int = 262_144,
    ca_file: Path | None = None,
    bearer_token_file: Path | None = None,
    proxy: Proxy | None = None,
    resolve: Resolve = resolve_here,
    **trust: Any,  # noqa: ANN401 - fields of Trust
) -> Fetcher:
    """Make a fetcher for an issuer whose configuration names *urls*; *trust* are further fields of its Trust."""
    trust["networks"] = tuple(map(ip_network, trust.get("networks", ())))
    written = frozenset(read_origin(urlsplit(url)) for url in urls)
    dialer = Dialer(
        trust=Trust(configured_origins=written, **trust),
        tls=TlsTrust(str(ca_file) if ca_file else None),
        proxy=proxy,
        resolve=resolve,
    )
    return Fetcher(
        dialer,
        timeout=timeout,
        max_bytes=max_bytes,
        bearer_token_file=str(bearer_token_file) if bearer_token_file else None,
    )


def refuse(fetcher: Fetcher, url: str) -> RefreshError:
    """Fetch what must fail, and return how it failed."""
    with pytest.raises(RefreshError) as failed:
        fetcher.get(url, {})
    return failed.value


def result(fetcher: Fetcher, url: str) -> Refresh:
    """Fetch what must fail, and return the word for it."""
    return refuse(fetcher, url).result


def write_ca(ca: trustme.CA, folder: Path, name: str = "ca.pem") -> Path:
    """Write a CA's certificate to a file."""
    file = folder / name
    ca.cert_pem.write_to_path(str(file))
    return file


def old_tls(ca: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server that speaks TLS 1.1 at best."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    ca.issue_cert(*names).configure_cert(context)
    return context
