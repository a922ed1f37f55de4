"""Proves that a sidecar whose rules ask a risk engine stays safe and answers, whatever the engine and clients do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from authz.demo.loopback import Responder
from authz.envoy import ext_authz_pb2 as wire
from tests.fakes.idp import FakeIdp, brotli, fail, flood, html, redirect, say
from tests.fakes.kms import half, reset
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.station import Station

ASSESS: Final = "/v1/assess"
LOW, HIGH = say(b'{"level":"low"}'), say(b'{"level":"high"}')
PATIENT: Final = "max_wait: 10s, timeout: 10s"
TOLERANT: Final = f"{PATIENT}, cache: 0s, on_error: {{level: low}}"
RISKY: Final = "GET api.test/x"
PLAIN: Final = "GET api.test/open"


def station(idp: FakeIdp, more: str = f"{PATIENT}, cache: 0s", *, engine: FakeIdp | None = None) -> Station:
    """A sidecar with a fake provider, which is its risk engine too, or another: for everything but /open."""
    return Station(
        whole=f"""version: 1
issuers:
  a: {{issuer: '{idp.issuer}', audiences: [api], insecure: {{http: true}}}}
risk: {{url: "{(engine or idp).url}{ASSESS}", send_headers: [user-agent], {more}}}
rules:
  - {{name: open, match: {{paths: [/open]}}}}
  - {{name: all, match: {{paths: ["/**"]}}, require: {{risk: {{levels: [low]}}}}}}
""",
    ).settle()


ABSENT: Final[dict[str, Responder]] = {
    "502": fail(502),
    "503": fail(503),
    "reset": reset,
}
ERRORS: Final[dict[str, Responder]] = {
    **{str(status): fail(status) for status in (400, 401, 403, 404, 413, 422, 429, 431, 500)},
    "HTML": html(),
    "huge": flood(1),
    "redirect": redirect("/login"),
    "wrong type": say(b'{"level":"low"}', content_type="text/plain"),
    "not JSON": say(b"low"),
    "neither": say(b"{}"),
    "encoded": brotli(),
    "reset in the middle": half,
}
FAULTS: Final[dict[str, Responder]] = {**ABSENT, **ERRORS}
# Of these, what one question may be the cause of, which a client has a part in: of the engine, or a firewall.
BY_THE_QUESTION: Final = tuple(fault for fault in ERRORS if fault not in {"401", "429"})
QUIET_OR_NOT: Final = [(fault, quiet) for fault in BY_THE_QUESTION for quiet in (False, True)]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_try_again_and_ends_with_the_fault(fault: Responder) -> None:
    """Never an allow, never held against the client, never cached; a rule that asks no one needs none of it."""
    with FakeIdp() as idp, station(idp, f"{PATIENT}, cache: 1h") as sidecar:
        idp.answers[ASSESS] = fault
        token = idp.mint()
        assert sidecar.ask(token, RISKY) == "risk_unavailable"
        assert sidecar.ask(token, PLAIN) == "authenticated"
        idp.answers[ASSESS] = LOW
        assert sidecar.ask(token, RISKY) == "authenticated"


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_slow_engine_is_waited_for_within_bounds(fault: str) -> None:
    """The first byte or the last: each check ends by its own bound, and requests that need none do not notice."""
    slow: Callable[[FakeIdp], Responder] = lambda idp: idp.hang if fault == "hang" else idp.drip(seconds=0.1)  # noqa: E731
    with FakeIdp() as idp, station(idp, "max_wait: 100ms, timeout: 200ms") as sidecar:
        idp.answers[ASSESS] = slow(idp)
        waiting = [sidecar.begin(idp.mint(sub=f"user-{number}")) for number in range(8)]
        assert sidecar.ask(idp.mint(), PLAIN) == "authenticated"
        for answers in waiting:
            answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
            assert answer.dynamic_metadata.fields["reason"].string_value == "risk_unavailable"
            assert answer.denied_response.status.code == 503
        idp.stop()


def test_an_engine_that_restarts_is_left_alone_and_comes_back() -> None:
    """Under load: what it said before serves as long as configured, new questions try again."""
    with FakeIdp() as idp, station(idp, f"{PATIENT}, cache: 1h") as sidecar:
        idp.answers[ASSESS] = LOW
        known = idp.mint(sub="known")
        assert sidecar.ask(known, RISKY) == "authenticated"
        tokens = [idp.mint(sub=f"new-{number}") for number in range(8)]
        idp.stop()
        assert {sidecar.ask(token, RISKY) for token in tokens} == {"risk_unavailable"}
        assert sidecar.ask(known, RISKY) == "authenticated"
        assert sidecar.asked("engine", "breaker_open", "risk") > 0
        idp.start()
        wait_until(lambda: sidecar.ask(tokens[0], RISKY) == "authenticated")


def test_64_checks_with_one_question_ask_once() -> None:
    """Anyone who comes while the answer is pending shares it."""
    with FakeIdp() as idp, station(idp) as sidecar:
        idp.answers[ASSESS] = LOW
        token = idp.mint()
        waiting = [sidecar.begin(token) for _ in range(64)]
        answers = [wire.CheckResponse.FromString(each.get(timeout=HANG_SECONDS)) for each in waiting]
        assert {answer.status.code for answer in answers} == {0}
        assert idp.count(ASSESS) < 64


@pytest.mark.parametrize("fault", ABSENT.values(), ids=ABSENT)
def test_an_engine_that_is_absent_counts_as_configured(fault: Responder) -> None:
    """With on_error its absence is an answer, and so it stays while the circuit breaker is open."""
    with FakeIdp() as idp, station(idp, TOLERANT) as sidecar:
        idp.answers[ASSESS] = fault
        assert {sidecar.ask(idp.mint(), RISKY) for _ in range(8)} == {"authenticated"}
        assert sidecar.asked("engine", "breaker_open", "risk") > 0


def tripping(fault: Responder) -> Responder:
    """Assess as a good engine does, but trip over one header."""
    return lambda request: (fault if b"odd" in request.body else HIGH)(request)


@pytest.mark.parametrize("fault", ERRORS.values(), ids=ERRORS)
def test_no_client_makes_itself_harmless(fault: Responder) -> None:
    """An error in response to a question is no absence: who is refused would otherwise send another header, and pass.

    That is so from the first question on, and while others are assessed.
    """
    with FakeIdp() as idp, station(idp, TOLERANT) as sidecar:
        idp.answers[ASSESS] = tripping(fault)
        for _ in range(2):
            assert sidecar.ask(idp.mint(), RISKY, user_agent="odd") == "risk_unavailable"
            assert sidecar.ask(idp.mint(), RISKY) == "risk_denied"


@pytest.mark.parametrize(("fault", "quiet"), [("401", False), *QUIET_OR_NOT])
def test_no_client_leaves_others_without_an_assessment(fault: str, quiet: bool) -> None:  # noqa: FBT001 - a variant
    """Questions that a good engine trips over open no circuit breaker: the next client is assessed as ever.

    That is so also when all was *quiet* before: but for 401, which is about our credentials if none were accepted yet.
    """
    with FakeIdp() as idp, station(idp) as sidecar:
        idp.answers[ASSESS] = tripping(ERRORS[fault])
        if not quiet:
            assert sidecar.ask(idp.mint(), RISKY) == "risk_denied"
        for number in range(12):
            assert sidecar.ask(idp.mint(), RISKY, user_agent=f"odd {number}") == "risk_unavailable"
        assert sidecar.ask(idp.mint(), RISKY) == "risk_denied"
        assert sidecar.asked("engine", "breaker_open", "risk") == 0


def test_a_flood_of_questions_allows_nothing() -> None:
    """Our own budget is no absence of the engine: who is refused cannot spend it, and then pass."""
    bounds = f"{PATIENT}, cache: 0s, max_per_second: 1, on_error: {{level: low}}"
    with FakeIdp() as idp, station(idp, bounds) as sidecar:
        idp.answers[ASSESS] = HIGH
        found = {sidecar.ask(idp.mint(), RISKY, user_agent=str(number)) for number in range(50)}
        assert found <= {"risk_denied", "risk_unavailable"}
        assert sidecar.asked("engine", "rate_limited", "risk") > 0


def test_a_question_is_bounded() -> None:
    """A header beyond the bound is sent nowhere, and passes nothing, whatever a failure counts as."""
    with FakeIdp() as idp, station(idp, f"{PATIENT}, on_error: {{level: low}}") as sidecar:
        idp.answers[ASSESS] = LOW
        assert sidecar.ask(idp.mint(), RISKY, user_agent="x" * 100_000) == "risk_denied"
        assert idp.count(ASSESS) == 0
