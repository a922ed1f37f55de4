"""Proves authz.telemetry.decisions: floods are reported in numbers, and who fails most is named."""

from __future__ import annotations

from typing import Any

import pytest

from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.decisions import MANY_FAILURES, MAX_NAMED, DecisionLog
from authz.telemetry.metrics import Metrics
from tests.fixtures import ask
from tests.unit.telemetry.capturing import logging_to, parsed

ALLOW = Allow(reason=Reason.AUTHENTICATED, trail=AuditTrail())
WOULD_DENY = Allow(reason=Reason.TOKEN_MISSING, trail=AuditTrail(), would_deny=True)
DENY = Deny(Reason.TOKEN_MISSING)


class Rig:
    """A decision log, its numbers and its clock."""

    def __init__(self, max_lines: int = 3) -> None:
        self.metrics = Metrics(insecure_options=0, label_rules=True)
        self.time = 0.0
        self.log = DecisionLog(self.metrics, monotonic=lambda: self.time, max_lines=max_lines)

    def write(self, decision: Decision, times: int = 1, trace: TraceContext | None = None) -> list[dict[str, Any]]:
        """Write a decision some times, and return the lines."""
        with logging_to() as stream:
            for _ in range(times):
                self.log.write(CheckRecord(decision, "id", None, 0.0), log_client=True, trace=trace)
        return parsed(stream)

    def fail(self, address: str, times: int, reason: Reason = Reason.SIGNATURE_INVALID) -> None:
        """Let a client fail."""
        for _ in range(times):
            self.log.count_failure(CheckRecord(Deny(reason), "id", ask(source_address=address), 0.0))

    def summarise(self, *, name_clients: bool = True) -> list[dict[str, Any]]:
        """Let a minute pass, and return what is reported then."""
        self.time += 60.0
        with logging_to() as stream:
            self.log.summarise(name_clients=name_clients)
        return [{key: line[key] for key in line if key not in {"time", "logger"}} for line in parsed(stream)]

    def value(self, name: str) -> float | None:
        """Return a number."""
        return self.metrics.registry.get_sample_value(name)


@pytest.mark.parametrize(("decision", "outcome"), [(DENY, "deny"), (WOULD_DENY, "would_deny")])
def test_a_flood_is_summarised_with_its_count(decision: Decision, outcome: str) -> None:
    """The first lines stand on their own, one line counts all others, and no decision is lost between them."""
    rig = Rig(max_lines=3)
    assert len(rig.write(decision, 10)) == 3
    assert rig.summarise() == [
        {
            "level": "WARNING",
            "message": f"7 more: {outcome} token_missing",
            "decision": outcome,
            "reason": "token_missing",
            "count": 7,
            "seconds": 60,
        }
    ]
    assert rig.value("authz_log_lines_summarised_total") == 7
    assert rig.summarise() == []
    assert len(rig.write(decision, 10)) == 3


def test_a_flood_of_one_reason_leaves_room_for_others() -> None:
    """An attacker with bad tokens does not hide a denial of another kind."""
    rig = Rig(max_lines=3)
    rig.write(DENY, 100)
    assert len(rig.write(Deny(Reason.POLICY_DENIED), 2)) == 2


def test_allows_are_never_summarised() -> None:
    """Who asks for all decisions has an audit log without gaps."""
    rig = Rig(max_lines=3)
    assert len(rig.write(ALLOW, 50)) == 50
    assert rig.summarise() == []


def test_a_line_names_its_trace() -> None:
    """Trace and span where there is a span; the trace alone where Envoy keeps none; neither without a trace."""
    rig = Rig()
    ids = [
        {key: line[key] for key in line.keys() & {"trace_id", "span_id"}}
        for trace in (TraceContext("t", "s"), TraceContext("t"), None)
        for line in rig.write(DENY, trace=trace)
    ]
    assert ids == [{"trace_id": "t", "span_id": "s"}, {"trace_id": "t"}, {}]


def test_what_a_token_says_is_told_where_it_is_the_cause() -> None:
    """Anyone who reads the line has no token: its issuer or audience is in it, cut and printable."""
    rig = Rig()
    said = AuditTrail(
        claimed_issuer="https://other.test\n",
        audience=["billing", {"odd": 1}, "x" * 100],
        expected_audience=frozenset({"orders", "api"}),
    )
    (unknown,) = rig.write(Deny(Reason.ISSUER_UNKNOWN, said), 1)
    (mismatch,) = rig.write(Deny(Reason.AUDIENCE_MISMATCH, said), 1)
    (other,) = rig.write(Deny(Reason.TOKEN_EXPIRED, said), 1)
    assert unknown["claimed_issuer"] == "https://other.test\\x0a"
    assert mismatch["audience"] == ["billing", "{'odd': 1}", "x" * 64 + "..."]
    assert mismatch["expected_audience"] == ["api", "orders"]
    assert not {"claimed_issuer", "audience", "expected_audience"} & other.keys()


def test_a_list_of_audiences_is_bounded() -> None:
    """A token, or a rule, may name hundreds: some are named, the others are counted; one alone is a list too."""
    rig = Rig()
    many = AuditTrail(audience=[f"a{number}" for number in range(20)], expected_audience=frozenset({"api"}))
    (line,) = rig.write(Deny(Reason.AUDIENCE_MISMATCH, many), 1)
    assert line["audience"] == [*(f"a{number}" for number in range(8)), "and 12 more"]
    (line,) = rig.write(Deny(Reason.AUDIENCE_MISMATCH, AuditTrail(audience="billing")), 1)
    assert line["audience"] == ["billing"]
    (line,) = rig.write(Deny(Reason.AUDIENCE_MISMATCH, AuditTrail()), 1)
    assert line["audience"] == []


def test_calls_that_envoy_gave_up_are_summarised() -> None:
    """They have no decision, hence no line: one a minute says how many there were, and none where there were none."""
    rig = Rig()
    for _ in range(3):
        rig.metrics.count_cancelled()
    assert rig.summarise() == [
        {"level": "WARNING", "message": "3 cancelled: Envoy stopped waiting", "cancelled": 3, "seconds": 60}
    ]
    assert rig.summarise() == []
    rig.metrics.count_cancelled()
    assert [line["cancelled"] for line in rig.summarise()] == [1]


def test_who_fails_most_is_named() -> None:
    """Each client with many failures in a minute has a line; the busiest one's number is a metric without its name."""
    rig = Rig()
    rig.fail("192.0.2.1", MANY_FAILURES + 5)
    rig.fail("192.0.2.2", MANY_FAILURES)
    rig.fail("192.0.2.3", MANY_FAILURES - 1)
    lines = rig.summarise()
    assert [(line["client"], line["failures"], line["seconds"]) for line in lines] == [
        ("192.0.2.1", MANY_FAILURES + 5, 60),
        ("192.0.2.2", MANY_FAILURES, 60),
    ]
    assert rig.value("authz_client_failures_max") == MANY_FAILURES + 5
    assert rig.summarise() == []
    assert rig.value("authz_client_failures_max") == 0


def test_no_client_is_named_where_none_may_be() -> None:
    """With log_client: false there is the number, and no address."""
    rig = Rig()
    rig.fail("192.0.2.1", 100)
    assert rig.summarise(name_clients=False) == []
    assert rig.value("authz_client_failures_max") == 100


def test_a_network_of_one_client_is_one_client() -> None:
    """Anyone who has a /64 of IPv6 does not escape by changing addresses within it."""
    rig = Rig()
    for number in range(100):
        rig.fail(f"2001:db8:0:1::{number:x}", 1)
    assert [line["client"] for line in rig.summarise()] == ["2001:db8:0:1::/64"]


def test_faults_of_ours_are_no_failures_of_clients() -> None:
    """Overload, missing keys and internal errors are counted against no one."""
    rig = Rig()
    for reason in (Reason.OVERLOADED, Reason.KEYS_UNAVAILABLE, Reason.INTERNAL_ERROR):
        rig.fail("192.0.2.1", 100, reason)
    assert rig.summarise() == []


@pytest.mark.parametrize("address", ["", "x" * 100_000, '\n{"a": 1}', "::\u2028", "fe80::1%\n", ":" * 1000])
def test_an_odd_address_forges_nothing(address: str) -> None:
    """Envoy says who calls; even were it odd, a line stays one printable line of bounded length."""
    rig = Rig()
    rig.fail(address, 100)
    (line,) = rig.summarise()
    assert line["client"].isprintable()
    assert len(line["client"]) < 1000


def test_the_summary_is_bounded() -> None:
    """However many fail, so many lines a minute tell of them."""
    rig = Rig()
    for number in range(50):
        rig.fail(f"192.0.2.{number}", 100)
    assert len(rig.summarise()) == MAX_NAMED
