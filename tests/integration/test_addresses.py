"""Proves that an issuer with several addresses is reached at the first that completes TLS (RFC 8305)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from authz.feeds.http.connect import Dialer, Proxy
from authz.feeds.http.fetch import Fetcher
from authz.feeds.http.tls import TlsTrust
from authz.feeds.http.trust import Trust, read_origin
from authz.telemetry.keys import Refresh
from tests.fakes.idp import JWKS, FakeIdp
from tests.fakes.raw import RawServer, Talk, be_silent, forward, pass_on
from tests.fakes.tls import server_context
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.fetching import SHORT, result, write_ca

CA = trustme.CA()
HOST = "idp.test"
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 10)]
AT_ONCE = 0.0  # a attempt_delay at which all attempts start together


class Front(RawServer):
    """Serves each of ADDRESSES, all at one port, by its talk, or by *otherwise*; `ended` has those that were closed."""

    def __init__(self, otherwise: Talk, talks: Mapping[str, Talk] | None = None) -> None:
        self.ended: list[str] = []
        self.all_there = threading.Event()
        self._there: set[str] = set()

        def talk(connection: socket.socket, over: threading.Event) -> None:
            address = connection.getsockname()[0]
            self._there.add(address)
            if len(self._there) == len(ADDRESSES):
                self.all_there.set()
            (talks or {}).get(address, otherwise)(connection, over)

        super().__init__(talk, host="0.0.0.0")  # noqa: S104 - every loopback address at one port

    def wait_for_end(self, connection: socket.socket, over: threading.Event) -> None:
        """Say nothing, and note when the client hangs up."""
        while connection.recv(4096):
            pass
        self.ended.append(connection.getsockname()[0])


def make_fetcher(
    url: str, addresses: list[str], ca: Path, *, attempt_delay: float = AT_ONCE, timeout: float = HANG_SECONDS
) -> Fetcher:
    """Make a fetcher for an issuer that has these addresses."""
    dialer = Dialer(
        trust=Trust(configured_origins=frozenset({read_origin(urlsplit(url))})),
        tls=TlsTrust(str(ca)),
        resolve=lambda *_: addresses,
        attempt_delay=attempt_delay,
    )
    return Fetcher(dialer, timeout=timeout, max_bytes=262_144)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The authority of the issuer."""
    return write_ca(CA, tmp_path)


def test_slow_handshake_is_not_cut_short_for_other_addresses(ca: Path) -> None:
    """The first of eight goes on with TLS only when the other seven are connected too: the issuer is reached there."""
    with FakeIdp(tls=server_context(CA, HOST)) as idp:

        def wait_for_the_others(connection: socket.socket, over: threading.Event) -> None:
            front.all_there.wait(HANG_SECONDS)
            pass_on(int(idp.url.rpartition(":")[2]))(connection, over)

        with Front(be_silent, {ADDRESSES[0]: wait_for_the_others}) as front:
            url = f"https://{HOST}:{front.port}{JWKS}"
            assert make_fetcher(url, ADDRESSES, ca).get(url, {}).status == 200
        assert len(idp.seen) == 1


def test_silent_addresses_are_passed_by_and_closed(ca: Path) -> None:
    """One that refuses, six that never answer, and one that does: the answer comes, and no connection stays open."""
    with FakeIdp(tls=server_context(CA, HOST)) as idp:
        good = pass_on(int(idp.url.rpartition(":")[2]))

        def be_silent_until_closed(connection: socket.socket, over: threading.Event) -> None:
            front.wait_for_end(connection, over)

        with Front(be_silent_until_closed, {ADDRESSES[-1]: good}) as front:
            url = f"https://{HOST}:{front.port}{JWKS}"
            assert make_fetcher(url, ["::1", *ADDRESSES], ca, attempt_delay=0.01).get(url, {}).status == 200
            wait_until(lambda: set(front.ended) == set(ADDRESSES[:-1]))


def test_all_are_closed_at_the_deadline(ca: Path) -> None:
    """Where none answers the fetch ends in time, its thread too, with every connection closed."""

    def be_silent_until_closed(connection: socket.socket, over: threading.Event) -> None:
        front.wait_for_end(connection, over)

    with Front(be_silent_until_closed) as front:
        url = f"https://{HOST}:{front.port}{JWKS}"
        fetcher = make_fetcher(url, ADDRESSES, ca, timeout=SHORT)
        assert result(fetcher, url) is Refresh.TIMEOUT
        wait_until(lambda: len(front.ended) == len(front.heard))
        wait_until(lambda: fetcher._abandoned_thread is None or not fetcher._abandoned_thread.is_alive())


def test_certificate_of_another_at_one_address_does_not_win(ca: Path) -> None:
    """An old machine behind one address answers first, with a certificate that does not verify."""
    with (
        FakeIdp(tls=server_context(CA, HOST)) as idp,
        FakeIdp(tls=server_context(CA, "old.test")) as old,
        Front(
            pass_on(int(idp.url.rpartition(":")[2])), {ADDRESSES[0]: pass_on(int(old.url.rpartition(":")[2]))}
        ) as front,
    ):
        url = f"https://{HOST}:{front.port}{JWKS}"
        assert make_fetcher(url, ADDRESSES[:2], ca, attempt_delay=HANG_SECONDS).get(url, {}).status == 200
        assert result(make_fetcher(url, ADDRESSES[:1], ca), url) is Refresh.TLS
        assert old.seen == []


def test_one_address_that_may_not_be_used_refuses_all(ca: Path) -> None:
    """Rules are for each address, before any is connected to."""
    with Front(be_silent) as front:
        url = f"https://{HOST}:{front.port}{JWKS}"
        assert result(make_fetcher(url, [*ADDRESSES, "169.254.1.2"], ca), url) is Refresh.UNTRUSTED
        assert front.heard == []


def test_proxy_with_several_addresses(ca: Path) -> None:
    """The proxy's addresses take part in the race up to the issuer's TLS: a proxy that hangs costs one pause."""
    with FakeIdp(tls=server_context(CA, HOST)) as idp, Front(be_silent, {ADDRESSES[1]: forward()}) as front:
        port = idp.url.rpartition(":")[2]
        url = f"https://{HOST}:{port}{JWKS}"
        dialer = Dialer(
            trust=Trust(configured_origins=frozenset({read_origin(urlsplit(url))})),
            tls=TlsTrust(str(ca)),
            proxy=Proxy("proxy.test", front.port),
            resolve=lambda *_: ADDRESSES[:2],
            attempt_delay=AT_ONCE,
        )
        assert Fetcher(dialer, timeout=HANG_SECONDS, max_bytes=262_144).get(url, {}).status == 200
