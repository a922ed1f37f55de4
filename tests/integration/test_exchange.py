"""Proves token exchange (RFC 8693) over real HTTP: what is sent, what is accepted, and what faults cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from authz.core import base64url
from authz.demo.loopback import Request, Responder, Response, json_response
from authz.envoy import ext_authz_pb2 as wire
from tests.fakes.idp import FakeIdp, fail, flood, html, redirect
from tests.fakes.kms import half, reset
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.station import Station

EXCHANGE: Final = "/token"
SECRET: Final = "exchange-geheim-7"
URN: Final = "urn:ietf:params:oauth:token-type:"


def station(idp: FakeIdp, folder: Path, more: str = "max_wait: 10s, timeout: 10s", upstream: str = "") -> Station:
    """A sidecar that has tokens exchanged at a fake provider, for the audience `orders`."""
    (folder / "secret").write_text(f"{SECRET}\n")
    exchange = f"issuer: a, url: '{idp.url}{EXCHANGE}', client: {{id: gw, secret_file: {folder / 'secret'}}}, {more}"
    whole = f"""version: 1
issuers:
  a: {{issuer: '{idp.issuer}', audiences: [api], insecure: {{http: true}}}}
rules:
  - match: {{paths: [/public]}}
    allow: public
  - match: {{paths: ["/**"]}}
    require: {{any_scope: [read, write]}}
identity:
  token: {{header: authorization, audience: [orders], exchange: {{{exchange}}}{upstream}}}
"""
    return Station(whole=whole).settle()


_DAY: Final = 86_400  # seconds: these answers are made when tests are collected, and a busy machine comes to them late


def jwt(**claims: object) -> str:
    """Write a token for the upstream; who verifies it is not here."""
    parts = ({"alg": "none"}, {"aud": "orders", "exp": int(time.time()) + _DAY, **claims})
    return ".".join(base64url.encode(json.dumps(part).encode()).decode() for part in parts) + ".c2ln"


def given(token: str | None = None, **changes: object) -> Responder:
    """Answer with a token as RFC 8693 section 2.2.1 has it, with changes; None leaves a member out."""
    members = {
        "access_token": token or jwt(),
        "issued_token_type": f"{URN}access_token",
        "token_type": "Bearer",
        "expires_in": 300,
        **changes,
    }
    return lambda _: json_response({name: value for name, value in members.items() if value is not None})


def refuse(error: str, status: int = 400) -> Responder:
    """Answer with an error as RFC 6749 section 5.2 has it."""
    return lambda _: json_response({"error": error, "error_description": "secret text"}, status=status)


def caller(idp: FakeIdp, *, sub: str = "alice") -> str:
    """Return a caller's token with two scopes, of which the rule asks for one."""
    return idp.mint(scope="read other", sub=sub)


def test_what_is_sent(tmp_path: Path) -> None:
    """The caller's token, for the audience and the scope of the rule; the answer replaces it, and is used again."""
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        exchanged, token = jwt(sub="alice"), caller(idp)
        idp.answers[EXCHANGE] = given(exchanged)
        for _ in range(3):
            assert sidecar.identity(token, "GET api.test/orders") == {"authorization": f"Bearer {exchanged}"}
        [sent] = [request for request in idp.seen if request.path == EXCHANGE]
        assert sent.parameters == {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": f"{URN}access_token",
            "requested_token_type": f"{URN}access_token",
            "audience": "orders",
            "scope": "read",
        }
        assert dict(sent.headers)["authorization"].startswith("Basic ")
        assert sidecar.ask(idp.mint(), "GET api.test/public") == "public"
        assert idp.count(EXCHANGE) == 1


ACCEPTED: Final[dict[str, Responder]] = {
    "opaque": given("opaque-token"),
    "in lower case": given(token_type="bearer"),
    "several audiences": given(jwt(aud=["other", "orders"])),
    "without expires_in": given(expires_in=None),
}
NOT_ASKED_FOR: Final[dict[str, Responder]] = {
    "an ID token (Keycloak)": given(token_type="N_A"),
    "bound to a key": given(token_type="DPoP"),
    "no token_type": given(token_type=None),
    "another kind": given(issued_token_type=f"{URN}id_token"),
    "a refresh token": given(issued_token_type=f"{URN}refresh_token"),
    "no kind": given(issued_token_type=None),
    "another audience": given(jwt(aud="account")),
    "no audience": given(jwt(aud=None)),
    "an audience that is no text": given(jwt(aud=[{"a": 1}])),
    "ended": given(jwt(exp=1)),
    "ends now": given(expires_in=0),
    "no token": given(access_token=None),
    "a line break": given("a\nb"),
    "too long": given("a" * 17_000),
    "HTML": html(),
    "not JSON": lambda _: Response(200, (("Content-Type", "application/json"),), b"token"),
    "plain": lambda _: Response(200, (("Content-Type", "text/plain"),), b"{}"),
    "reset": reset,
    "reset in the middle": half,
}


@pytest.mark.parametrize("answer", ACCEPTED.values(), ids=ACCEPTED)
def test_answers_that_are_accepted(answer: Responder, tmp_path: Path) -> None:
    """Forms that real servers use."""
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        idp.answers[EXCHANGE] = answer
        assert sidecar.ask(caller(idp)) == "authenticated"


@pytest.mark.parametrize("answer", NOT_ASKED_FOR.values(), ids=NOT_ASKED_FOR)
def test_what_was_not_asked_for_is_never_sent(answer: Responder, tmp_path: Path) -> None:
    """The client tries again, and it ends with the fault: nothing of it is kept."""
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        idp.answers[EXCHANGE] = answer
        assert sidecar.ask(caller(idp)) == "upstream_token_unavailable"
        idp.answers[EXCHANGE] = given()
        assert sidecar.ask(caller(idp)) == "authenticated"


def test_an_opaque_token_is_no_jwt(tmp_path: Path) -> None:
    """Where a JWT was asked for, its form is looked at too."""
    with FakeIdp() as idp, station(idp, tmp_path, "max_wait: 10s, timeout: 10s, token_type: jwt") as sidecar:
        idp.answers[EXCHANGE] = given("opaque-token", issued_token_type=f"{URN}jwt")
        assert sidecar.ask(caller(idp)) == "upstream_token_unavailable"
        idp.answers[EXCHANGE] = given(issued_token_type=f"{URN}jwt")
        assert sidecar.ask(caller(idp)) == "authenticated"


# Each with the reason while our client is not proved to be accepted, and after it was.
REFUSALS: Final[dict[str, tuple[Responder, str, str]]] = {
    "invalid_grant": (refuse("invalid_grant"), "token_inactive", "token_inactive"),
    "too large": (fail(413), "token_inactive", "token_inactive"),
    "invalid_target": (refuse("invalid_target"), "upstream_token_refused", "upstream_token_refused"),
    "invalid_scope": (refuse("invalid_scope"), "upstream_token_refused", "upstream_token_refused"),
    "invalid_request": (refuse("invalid_request"), "upstream_token_unavailable", "token_inactive"),
    "not our audience (Keycloak)": (
        refuse("access_denied", 403),
        "upstream_token_unavailable",
        "upstream_token_refused",
    ),
    "invalid_client": (refuse("invalid_client", 401), "upstream_token_unavailable", "upstream_token_unavailable"),
    "off (Keycloak)": (refuse("unauthorized_client"), "upstream_token_unavailable", "upstream_token_unavailable"),
    "unsupported": (refuse("unsupported_grant_type"), "upstream_token_unavailable", "upstream_token_unavailable"),
    "500": (fail(500), "upstream_token_unavailable", "upstream_token_unavailable"),
    "429": (fail(429), "upstream_token_unavailable", "upstream_token_unavailable"),
    "redirect": (redirect("/login"), "upstream_token_unavailable", "upstream_token_unavailable"),
    "huge": (flood(1), "upstream_token_unavailable", "upstream_token_unavailable"),
}


@pytest.mark.parametrize(("answer", "before", "after"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(answer: Responder, before: str, after: str, tmp_path: Path) -> None:
    """Who is the cause decides between a denial and "try again"; what was exchanged before serves on."""
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        idp.answers[EXCHANGE] = answer
        assert sidecar.ask(caller(idp, sub="eve")) == before
        idp.answers[EXCHANGE] = given()
        known = caller(idp)
        assert sidecar.ask(known) == "authenticated"
        idp.answers[EXCHANGE] = answer
        assert sidecar.ask(caller(idp, sub="mallory")) == after
        assert sidecar.ask(known) == "authenticated"


STRANGERS: Final[dict[str, Responder]] = {
    "invalid_grant": refuse("invalid_grant"),
    "invalid_request": refuse("invalid_request"),
    "access_denied": refuse("access_denied", 403),
    "500": fail(500),
    "403": fail(403),
    "406": fail(406),
    "a redirect": redirect("/blocked"),
    "an ID token": given(token_type="N_A"),
    "huge": flood(1),
}


@pytest.mark.parametrize("answer", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("quiet", [False, True])
def test_callers_do_not_open_the_breaker(answer: Responder, quiet: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a variant
    """Tokens that the server trips over cost their own callers alone, also when all was *quiet* before."""

    def only_for_mallory(request: Request) -> object:
        mallory = request.parameters["subject_token"] in tokens
        return (answer if mallory else given())(request)

    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        tokens = {caller(idp, sub=f"mallory-{number}") for number in range(12)}
        idp.answers[EXCHANGE] = only_for_mallory  # type: ignore[assignment]  # of both kinds of answer
        if not quiet:
            assert sidecar.ask(caller(idp, sub="alice")) == "authenticated"
        assert "authenticated" not in {sidecar.ask(token) for token in tokens}
        assert sidecar.ask(caller(idp, sub="bob")) == "authenticated"
        assert sidecar.asked("a", "breaker_open", "exchanged token") == 0


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_slow_server_is_waited_for_within_bounds(fault: str, tmp_path: Path) -> None:
    """The first byte or the last: each check ends by its own bound, and other requests do not notice."""
    slow: Callable[[FakeIdp], Responder] = lambda idp: idp.hang if fault == "hang" else idp.drip(seconds=0.1)  # noqa: E731
    with FakeIdp() as idp, station(idp, tmp_path, "max_wait: 300ms, timeout: 10s") as sidecar:
        known = caller(idp)
        idp.answers[EXCHANGE] = given()
        deadline = time.monotonic() + HANG_SECONDS
        while sidecar.ask(known) != "authenticated":  # a busy machine may take longer than max_wait
            assert time.monotonic() < deadline
        idp.answers[EXCHANGE] = slow(idp)
        waiting = [sidecar.begin(caller(idp, sub=f"new-{number}")) for number in range(8)]
        assert sidecar.ask(known) == "authenticated"
        for answers in waiting:
            answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
            assert answer.dynamic_metadata.fields["reason"].string_value == "upstream_token_unavailable"
            assert answer.denied_response.status.code == 503
        idp.stop()


def test_a_server_that_is_down_is_left_alone_and_comes_back(tmp_path: Path) -> None:
    """Tokens that were exchanged before serve on; new ones try again."""
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        idp.answers[EXCHANGE] = given()
        known = caller(idp)
        assert sidecar.ask(known) == "authenticated"
        idp.stop()
        found = {sidecar.ask(caller(idp, sub=f"new-{number}")) for number in range(8)}
        assert found == {"upstream_token_unavailable"}
        assert sidecar.ask(known) == "authenticated"
        assert sidecar.asked("a", "breaker_open", "exchanged token") > 0
        idp.start()
        deadline = time.monotonic() + HANG_SECONDS
        while sidecar.ask(caller(idp, sub="back")) != "authenticated":
            assert time.monotonic() < deadline


def test_64_checks_with_one_token_ask_once(tmp_path: Path) -> None:
    """Who comes while the answer is pending shares it."""
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        idp.answers[EXCHANGE] = given()
        token = caller(idp)
        waiting = [sidecar.begin(token) for _ in range(64)]
        answers = [wire.CheckResponse.FromString(each.get(timeout=HANG_SECONDS)) for each in waiting]
        assert {answer.status.code for answer in answers} == {0}
        assert idp.count(EXCHANGE) == 1


def test_a_token_that_ends_soon_is_not_kept(tmp_path: Path) -> None:
    """Within the slack before its end, and of unknown end, it serves one decision."""
    for answer in (given(expires_in=9), given("opaque", expires_in=None)):
        with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
            idp.answers[EXCHANGE] = answer
            token = caller(idp)
            assert {sidecar.ask(token) for _ in range(2)} == {"authenticated"}
            assert idp.count(EXCHANGE) == 2


def test_no_secret_leaves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the client's secret nor a token is in a log, whatever the server says."""
    caplog.set_level("DEBUG")
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        ours, theirs = jwt(sub="alice"), caller(idp)
        for answer in (refuse("invalid_client", 401), refuse("x" * 99), fail(500), given(ours, token_type="N_A")):
            idp.answers[EXCHANGE] = answer
            sidecar.ask(theirs)
        seen = caplog.text + repr(sidecar.facts._running) + repr(sidecar.config.identity)
        for secret in (SECRET, ours, theirs, "secret text"):
            assert secret not in seen
