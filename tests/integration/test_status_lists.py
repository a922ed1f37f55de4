"""Proves status lists end to end: a token passes until its issuer's list says otherwise, and never without a list."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from authz.demo.loopback import Request, Response
from tests.cases.status_list import pack
from tests.fakes.idp import JWKS, FakeIdp, fail, redirect
from tests.fakes.waiting import wait_until
from tests.fixtures import changed
from tests.integration.station import Station

LISTS = "/lists/1"
VALID = (0, 0, 0, 0)


class Lists:
    """The server of an issuer's lists."""

    def __init__(self, idp: FakeIdp) -> None:
        self.idp = idp
        self.statuses: tuple[int, ...] = VALID
        self.changes: dict[str, Any] = {}
        idp.answers[LISTS] = self.answer

    def answer(self, _request: Request) -> Response:
        key, now = self.idp.key, int(time.time())
        body = {"sub": f"{self.idp.url}{LISTS}", "iat": now, "exp": now + 600, "ttl": 1, "status_list": None}
        body["status_list"] = pack(*self.statuses, bits=2)
        head = json.dumps({**key.header(), "typ": "statuslist+jwt"}).encode()
        text = key.sign_bytes(json.dumps(changed(body, self.changes)).encode(), header=head)
        return Response(200, (("Content-Type", "application/statuslist+jwt"),), text.encode())


def station(idp: FakeIdp, settings: str = "", *, uris: str = "") -> Station:
    """Make a sidecar whose only issuer has lists."""
    wanted = uris or f"{idp.url}/lists/"
    return Station(
        f"  a:\n    issuer: {idp.issuer}\n    audiences: [api]\n    insecure: {{http: true}}\n"
        f"    status_list: {{uris: ['{wanted}']{settings}}}\n"
    ).settle()


def token(idp: FakeIdp, index: int = 0, uri: str = "") -> str:
    """Mint a token that names an entry."""
    return idp.mint(status={"status_list": {"idx": index, "uri": uri or f"{idp.url}{LISTS}"}})


def test_a_token_passes_until_the_list_says_otherwise() -> None:
    """Its first use fetches the list once; its revocation is seen in the background, while the token is used."""
    with FakeIdp() as idp, station(idp) as sidecar:
        lists = Lists(idp)
        assert [sidecar.ask(token(idp, index)) for index in (0, 1, 2)] == ["authenticated"] * 3
        assert idp.count(LISTS) == 1
        lists.statuses = (0, 1, 2, 0)
        wait_until(lambda: sidecar.ask(token(idp, 1)) == "token_revoked")
        assert [sidecar.ask(token(idp, index)) for index in (0, 2, 3)] == [
            "authenticated",
            "token_revoked",
            "authenticated",
        ]


def test_a_suspended_token_that_is_accepted() -> None:
    """The operator may let other statuses pass than VALID."""
    with FakeIdp() as idp, station(idp, ", accepted: [0, 2]") as sidecar:
        Lists(idp).statuses = (2, 1, 3, 0)
        answers = [sidecar.ask(token(idp, index)) for index in range(4)]
    assert answers == ["authenticated", "token_revoked", "token_revoked", "authenticated"]


@pytest.mark.parametrize("answer", [fail(500), fail(404), redirect("http://127.0.0.1:1/lists/1"), None])
def test_without_its_list_no_token_passes(answer: Any) -> None:  # noqa: ANN401
    """A server that fails, redirects or answers something else: 503, and the next request may pass."""
    with FakeIdp() as idp, station(idp) as sidecar:
        lists = Lists(idp)
        if answer is not None:
            idp.answers[LISTS] = answer
        else:
            lists.changes = {"sub": "https://elsewhere.test/lists/1"}
        assert sidecar.ask(token(idp)) == "revocations_unavailable"
        idp.answers[LISTS], lists.changes = lists.answer, {}
        wait_until(lambda: sidecar.ask(token(idp)) == "authenticated")


def test_who_has_a_token_without_its_list_takes_no_list_from_others() -> None:
    """However often it is sent: the lists of others are fetched as ever, and no circuit breaker opens."""
    with FakeIdp() as idp, station(idp) as sidecar:
        Lists(idp)
        mallory = token(idp, uri=f"{idp.url}/lists/gone")
        assert {sidecar.ask(mallory) for _ in range(100)} == {"revocations_unavailable"}
        assert sidecar.ask(token(idp)) == "authenticated"
        assert sidecar.asked("a", "breaker_open", "status_list") == 0


def test_a_list_that_cannot_be_fetched_again_serves_until_it_is_stale() -> None:
    """Then it is 503, until the server is back; other issuers' tokens would not notice."""
    with FakeIdp() as idp, station(idp, ", interval: 1s, max_stale: 2s") as sidecar:
        lists = Lists(idp)
        assert sidecar.ask(token(idp)) == "authenticated"
        idp.answers[LISTS] = fail(503)
        wait_until(lambda: sidecar.ask(token(idp)) == "revocations_unavailable")
        idp.answers[LISTS] = lists.answer
        wait_until(lambda: sidecar.ask(token(idp)) == "authenticated")


def test_only_configured_uris_are_fetched() -> None:
    """A token cannot have the sidecar ask another host, port or path."""
    with FakeIdp() as idp, FakeIdp() as other, station(idp) as sidecar:
        Lists(idp)
        for uri in (
            f"{other.url}{LISTS}",
            f"{idp.url}/secret",
            f"{idp.url}/lists/../secret",
            "http://169.254.169.254/latest/",
            "file:///etc/passwd",
        ):
            assert sidecar.ask(token(idp, uri=uri)) == "revocations_unavailable"
        assert other.seen == []
        assert {request.path for request in idp.seen} <= {"/.well-known/openid-configuration", "/jwks"}


def test_a_bomb_is_left_alone() -> None:
    """Entries beyond the bound are not inflated, and the token does not pass."""
    with FakeIdp() as idp, station(idp, ", max_inflated: 1KiB") as sidecar:
        Lists(idp).statuses = (0,) * 1_000_000
        assert sidecar.ask(token(idp)) == "revocations_unavailable"


def test_lists_may_be_signed_by_keys_of_their_own() -> None:
    """Another server signs and serves them; what the issuer itself signs is no list then."""
    with FakeIdp() as status, FakeIdp() as idp:
        settings = f", jwks_uri: '{status.url}{JWKS}'"
        with station(idp, settings, uris=f"{status.url}/lists/") as sidecar:
            lists = Lists(status)
            named = [token(idp, index, f"{status.url}{LISTS}") for index in (0, 1)]
            lists.statuses = (0, 1, 0, 0)
            assert [sidecar.ask(each) for each in named] == ["authenticated", "token_revoked"]
        with station(idp, settings, uris=f"{status.url}/lists/") as sidecar:
            lists.idp, lists.changes = idp, {"sub": f"{status.url}{LISTS}"}
            assert sidecar.ask(named[0]) == "revocations_unavailable"
