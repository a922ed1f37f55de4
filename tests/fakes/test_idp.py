"""The fake identity provider does what tests tell it to do."""

from __future__ import annotations

import socket

import pytest

from authz.demo.client import send
from tests.fakes.idp import DISCOVERY, JWKS, FakeIdp, fail, flood, html, redirect
from tests.fakes.waiting import HANG_SECONDS, wait_until


def test_it_counts_what_it_is_asked() -> None:
    """Requests are kept in order and counted by path."""
    with FakeIdp() as idp:
        assert send(f"{idp.issuer}{DISCOVERY}").json()["jwks_uri"] == f"{idp.url}{JWKS}"
        send(f"{idp.url}{JWKS}")
        send(f"{idp.url}{JWKS}")

    assert (idp.count(DISCOVERY), idp.count(JWKS), idp.count("/other")) == (1, 2, 0)


def test_keys_come_and_go() -> None:
    """A rotation publishes beside the old key; withdrawing takes a key away."""
    with FakeIdp() as idp:
        old = idp.key
        new = idp.rotate("RS256", kid="new")
        assert [jwk["kid"] for jwk in send(f"{idp.url}{JWKS}").json()["keys"]] == [old.kid, "new"]
        idp.withdraw(old.kid)
        assert [jwk["kid"] for jwk in send(f"{idp.url}{JWKS}").json()["keys"]] == [new.kid]


def test_it_misbehaves_where_it_is_told_to() -> None:
    """An answer replaces the honest one on its own path only."""
    with FakeIdp() as idp:
        idp.answers[JWKS] = fail(503, ("Retry-After", "120"))
        assert send(f"{idp.url}{JWKS}").header("retry-after") == "120"
        idp.answers[JWKS] = redirect("http://169.254.169.254/")
        assert send(f"{idp.url}{JWKS}").header("location") == "http://169.254.169.254/"
        idp.answers[JWKS] = html()
        assert send(f"{idp.url}{JWKS}").body.startswith(b"<!doctype")
        idp.answers[JWKS] = flood(2)
        assert len(send(f"{idp.url}{JWKS}").body) == 2 << 20
        assert send(f"{idp.url}{DISCOVERY}").status == 200


def test_a_hanging_provider_says_nothing() -> None:
    """A request is taken, and never answered."""
    with FakeIdp() as idp:
        idp.answers[JWKS] = idp.hang
        with pytest.raises(TimeoutError):
            send(f"{idp.url}{JWKS}", timeout=0.1)
        wait_until(lambda: idp.count(JWKS) == 1)


def test_a_dripping_provider_sends_byte_by_byte() -> None:
    """The status line itself comes in single bytes, and the whole is honest in the end."""
    with FakeIdp() as idp:
        idp.answers[JWKS] = idp.drip(seconds=60)
        with socket.create_connection(("127.0.0.1", int(idp.url.rpartition(":")[2])), HANG_SECONDS) as connection:
            connection.sendall(b"GET /jwks HTTP/1.1\r\n\r\n")
            assert connection.recv(100) == b"H"
        idp.answers[JWKS] = idp.drip(seconds=0)
        assert send(f"{idp.url}{JWKS}").json() == {"keys": idp.published}


def test_a_provider_that_was_down_comes_back_at_its_address() -> None:
    """The issuer keeps its URL, and its keys, over an outage."""
    with FakeIdp() as idp:
        idp.stop()
        with pytest.raises(ConnectionRefusedError):
            send(f"{idp.url}{JWKS}")
        idp.start()
        assert send(f"{idp.url}{JWKS}").json() == {"keys": idp.published}
