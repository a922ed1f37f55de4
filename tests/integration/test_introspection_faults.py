"""Proves that a sidecar whose issuer is asked about tokens stays safe and answers, whatever the issuer does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from authz.demo.loopback import Request, Responder, Response, json_response
from authz.envoy import ext_authz_pb2 as wire
from tests.fakes.idp import FakeIdp, brotli, fail, flood, html, redirect, say
from tests.fakes.kms import half, reset
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.asking import INTROSPECT
from tests.integration.station import Station


def station(idp: FakeIdp, folder: Path, more: str = "max_wait: 10s, timeout: 10s") -> Station:
    """A sidecar that asks a fake provider about tokens."""
    (folder / "secret").write_text("s\n")
    lines = (
        f"issuer: {idp.issuer}",
        "audiences: [api]",
        "insecure: {http: true}",
        (
            f"introspection: {{url: '{idp.url}{INTROSPECT}', "
            f"client: {{id: rs, secret_file: {folder / 'secret'}}}, {more}}}"
        ),
    )
    return Station("  a:\n" + "".join(f"    {line}\n" for line in lines)).settle()


def active(_request: Request) -> Response:
    """The good answer."""
    now = int(time.time())
    return json_response(
        {"active": True, "sub": "alice", "aud": "api", "exp": now + 300, "token_type": "Bearer", "scope": "read"}
    )


FAULTS: dict[str, Responder] = {
    "500": fail(500),
    "401": fail(401),
    "403": fail(403),
    "400": fail(400),
    "429": fail(429),
    "HTML": html(),
    "huge": flood(1),
    "redirect": redirect("/login"),
    "wrong type": say(b'{"active":true}', content_type="text/plain"),
    "not JSON": say(b"active"),
    "no boolean": say(b'{"active":"true"}'),
    "reset": reset,
    "reset in the middle": half,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_try_again_and_ends_with_the_fault(fault: Responder, tmp_path: Path) -> None:
    """Never an allow, never held against the token, and never cached; a JWT of the issuer needs none of it."""
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        idp.answers[INTROSPECT] = fault
        assert sidecar.ask("opaque") == "introspection_unavailable"
        assert sidecar.ask(idp.mint()) == "authenticated"
        idp.answers[INTROSPECT] = active
        assert sidecar.ask("opaque") == "authenticated"


MANY = json.dumps({"active": True, "roles": [[name] for name in range(2_000)]}).encode()
BY_THE_TOKEN: dict[str, Responder] = {
    "huge": flood(1),
    "many values": say(MANY),
    "encoded": brotli(),
    "500": fail(500),
    "400": fail(400),
    "403": fail(403),
    "406": fail(406),
    "a redirect": redirect("/blocked"),
}


@pytest.mark.parametrize("fault", BY_THE_TOKEN.values(), ids=BY_THE_TOKEN)
@pytest.mark.parametrize("quiet", [False, True])
def test_a_token_without_an_answer_leaves_others_theirs(fault: Responder, quiet: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a variant
    """A user with more roles than an answer may have opens no circuit breaker: others are asked about as ever.

    Nor does a token that a firewall in front of the issuer refuses; also when all was *quiet* before.
    """
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        idp.answers[INTROSPECT] = lambda request: (fault if b"mallory" in request.body else active)(request)
        if not quiet:
            assert sidecar.ask("alice") == "authenticated"
        for number in range(8):
            assert sidecar.ask(f"mallory-{number}") in {"introspection_unavailable", "token_inactive"}
        assert sidecar.ask("bob") == "authenticated"
        assert sidecar.asked("a", "breaker_open") == 0


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_slow_issuer_is_waited_for_within_bounds(fault: str, tmp_path: Path) -> None:
    """The first byte or the last: each check ends by its own bound, and other requests do not notice."""
    slow: Callable[[FakeIdp], Responder] = lambda idp: idp.hang if fault == "hang" else idp.drip(seconds=0.1)  # noqa: E731
    with FakeIdp() as idp, station(idp, tmp_path, "max_wait: 100ms, timeout: 200ms") as sidecar:
        idp.answers[INTROSPECT] = slow(idp)
        waiting = [sidecar.begin(f"opaque-{number}") for number in range(8)]
        assert sidecar.ask(idp.mint()) == "authenticated"
        for answers in waiting:
            answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
            assert answer.dynamic_metadata.fields["reason"].string_value == "introspection_unavailable"
            assert answer.denied_response.status.code == 503
        idp.stop()


def test_an_issuer_that_is_down_is_left_alone_and_comes_back(tmp_path: Path) -> None:
    """A restart under load: what was learned before continues to serve, new tokens try again."""
    with FakeIdp() as idp, station(idp, tmp_path, "max_wait: 10s, timeout: 10s, cache: 1h") as sidecar:
        idp.answers[INTROSPECT] = active
        assert sidecar.ask("known") == "authenticated"
        idp.stop()
        assert {sidecar.ask(f"new-{number}") for number in range(8)} == {"introspection_unavailable"}
        assert sidecar.ask("known") == "authenticated"
        assert sidecar.asked("a", "breaker_open") > 0
        idp.start()
        until = time.monotonic() + HANG_SECONDS
        while sidecar.ask("new") != "authenticated":
            assert time.monotonic() < until


def test_64_checks_with_one_new_token_ask_once(tmp_path: Path) -> None:
    """Anyone who comes while the answer is pending shares it."""
    with FakeIdp() as idp, station(idp, tmp_path) as sidecar:
        idp.answers[INTROSPECT] = active
        waiting = [sidecar.begin("new") for _ in range(64)]
        answers = [wire.CheckResponse.FromString(each.get(timeout=HANG_SECONDS)) for each in waiting]
        assert {answer.status.code for answer in answers} == {0}
        assert idp.count(INTROSPECT) == 1


def test_strangers_do_not_use_up_what_is_known(tmp_path: Path) -> None:
    """Made-up tokens spend the budget of questions: those that are known pass on, and the issuer is not flooded."""
    with FakeIdp() as idp, station(idp, tmp_path, "max_per_second: 1, max_wait: 10s, cache: 1h") as sidecar:
        idp.answers[INTROSPECT] = active
        assert sidecar.ask("known") == "authenticated"
        idp.answers[INTROSPECT] = lambda _: json_response({"active": False})
        found = {sidecar.ask(f"made-up-{number}") for number in range(200)}
        assert found <= {"token_inactive", "introspection_unavailable"}
        assert sidecar.ask("known") == "authenticated"
        assert sidecar.asked("a", "rate_limited") > 0
        assert idp.count(INTROSPECT) < 200
