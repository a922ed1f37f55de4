"""Proves authz.telemetry.report: bounded labels, one line for each decision, and no token in any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.keys import Key, Verified
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.snapshot import Snapshot
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.metrics import Metrics
from authz.telemetry.report import Reporting, reporter
from authz.telemetry.traceparent import TraceParent
from tests.fixtures import DEFAULT_SNAPSHOT, ask, decide, make_snapshot, mint, rule
from tests.unit.envoy.asking import make_checker, read, told, write_check
from tests.unit.telemetry import hostile
from tests.unit.telemetry.capturing import logging_to, parsed

SHADOW = make_snapshot(rule("shadow", "/items/**", shadow=True))


def metrics(*, label_rules: bool = True) -> Metrics:
    """Make fresh numbers."""
    return Metrics(insecure_options=0, label_rules=label_rules)


def make_reporter(
    numbers: Metrics | None = None, *, decisions: str = "all", log_client: bool = True
) -> Callable[[CheckRecord], None]:
    """Make what reports decisions, without traces."""
    numbers = numbers or metrics()
    reporting = Reporting(decisions=decisions, log_client=log_client)
    return reporter(numbers, DecisionLog(numbers, monotonic=lambda: 0.0), reporting)


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return every series of the registry by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


def judge(request: Request, *, report: Any, snapshot: Snapshot = DEFAULT_SNAPSHOT) -> None:  # noqa: ANN401 - a part of a Checker
    """Let a real Check of *request* be reported."""
    make_checker(report=report, snapshot=lambda: snapshot).check(write_check(request), received=0.0, time_left=None)


def report_of(decision: Decision, request: Request | None = None, **how: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - of reporter
    """Report one decision, and return the log lines."""
    with logging_to("json") as stream:
        make_reporter(**how)(CheckRecord(decision, "id1", request, 0.0015))
    return parsed(stream)


# Metrics.


def test_a_decision_is_counted_by_its_words() -> None:
    """Decision, reason, and the configured names of issuer and rule are the labels; the duration has none."""
    numbers = metrics()
    judge(ask(mint()), report=numbers.count)
    judge(ask(mint()), report=numbers.count)
    judge(ask(), report=numbers.count)
    value = numbers.registry.get_sample_value

    good = {"decision": "allow", "reason": "authenticated", "issuer": "a", "rule": "items"}
    missing = {"decision": "deny", "reason": "token_missing", "issuer": "", "rule": "items"}
    assert value("authz_decisions_total", good) == 2
    assert value("authz_decisions_total", missing) == 1
    assert value("authz_check_duration_seconds_count") == 3


def test_a_shadow_is_counted_apart() -> None:
    """What would be denied is neither an allow nor a denial."""
    numbers = metrics()
    judge(ask(), report=numbers.count, snapshot=SHADOW)
    labels = {"decision": "would_deny", "reason": "token_missing", "issuer": "", "rule": "shadow"}
    assert numbers.registry.get_sample_value("authz_decisions_total", labels) == 1


def test_many_rules_are_no_label() -> None:
    """Above max_rule_labels the label stays empty."""
    numbers = metrics(label_rules=False)
    judge(ask(mint()), report=numbers.count)
    labels = {"decision": "allow", "reason": "authenticated", "issuer": "a", "rule": ""}
    assert numbers.registry.get_sample_value("authz_decisions_total", labels) == 1


def test_insecure_options_and_version_show() -> None:
    """An operator sees from afar what is loosened, and what runs."""
    registry = Metrics(insecure_options=2, label_rules=True).registry
    assert registry.get_sample_value("authz_insecure_options") == 2
    assert any(name == "authz_build_info" for name, _ in series(registry))


def test_hostile_requests_add_no_series() -> None:
    """10,000 requests, none like the other, leave the series that one of each kind made."""
    numbers = metrics()
    corpus = list(hostile.requests())
    for request in corpus:
        judge(request, report=numbers.count)
    before = series(numbers.registry)

    for number in range(10_000):
        request = corpus[number % len(corpus)]
        unlike = {name: f"{value}{number}" for name, value in request.headers.items() if name != "authorization"}
        judge(
            replace(request, headers={**request.headers, **unlike}, path=f"{request.path}{number}"),
            report=numbers.count,
        )

    assert series(numbers.registry) == before
    words = {dict(labels).get("issuer") for _, labels in before} | {dict(labels).get("rule") for _, labels in before}
    assert words <= {None, "", "a", "b", "items", "admin"}


# Log lines.


def test_a_line_says_what_was_decided_and_why() -> None:
    """Outcome, reason, id, rule, issuer, key, subject, request: all that an operator searches for."""
    request = ask(mint(), headers={"x-request-id": "r1"}, path="/items/1?q=2", source_address="192.0.2.1")
    (line,) = report_of(decide(mint()), request)
    assert line.pop("time")
    assert line == {
        "level": "INFO",
        "logger": "authz.decisions",
        "message": "allow authenticated",
        "decision": "allow",
        "reason": "authenticated",
        "detail": "",
        "decision_id": "id1",
        "rule": "items",
        "issuer": "a",
        "alg": "RS256",
        "kid": "a-rsa",
        "duration_us": 1500,
        "request_id": "r1",
        "method": "GET",
        "host": "api.test",
        "path": "/items/1",
        "client": "192.0.2.1",
        "subject": "bob",
    }


def test_a_line_names_the_key_of_a_proof() -> None:
    """As it is, even if it begins like a token, since operators compare it; only if clients may be named."""
    trail = AuditTrail(thumbprint="eyJhbGciOiJSUzI1NiIsImtpZCI6ImEiLCJ0eXAiOiJ")
    (line,) = report_of(Deny(Reason.INSUFFICIENT_SCOPE, trail), ask())
    assert line["thumbprint"] == trail.thumbprint
    (line,) = report_of(Deny(Reason.INSUFFICIENT_SCOPE, trail), ask(), log_client=False)
    assert "thumbprint" not in line


def test_a_line_names_the_pdp_that_was_asked() -> None:
    """It is configured, and names no client."""
    (line,) = report_of(Deny(Reason.PDP_DENIED, AuditTrail(pdp="policies")), ask(), log_client=False)
    assert line["pdp"] == "policies"


def test_a_call_that_was_not_read_is_logged_too() -> None:
    """Overload and undecodable bytes have no request to tell of."""
    (line,) = report_of(Deny(Reason.OVERLOADED))
    assert (line["decision"], line["reason"]) == ("deny", "overloaded")
    assert "path" not in line


def test_client_and_subject_may_be_left_out() -> None:
    """log_client: false keeps persons out of the log, in allows and denials."""
    name = "bob@example.com"
    request = ask(mint(sub=name), source_address="192.0.2.1")
    for decision in (decide(mint(sub=name)), Deny(Reason.POLICY_DENIED, AuditTrail(subject=name))):
        (line,) = report_of(decision, request, log_client=False)
        assert line.keys().isdisjoint({"client", "subject"})
        assert not {"192.0.2.1", name} & set(map(str, line.values()))


ALLOW = Allow(reason=Reason.AUTHENTICATED, trail=AuditTrail())
WOULD_DENY = Allow(reason=Reason.TOKEN_MISSING, trail=AuditTrail(), would_deny=True)
DENY = Deny(Reason.TOKEN_MISSING)


@pytest.mark.parametrize(
    ("decisions", "logged"), [("all", [ALLOW, WOULD_DENY, DENY]), ("denied", [WOULD_DENY, DENY]), ("none", [])]
)
def test_the_operator_says_which_decisions_are_logged(decisions: str, logged: list[Decision]) -> None:
    """All, those that are or would be denied, or none; all are counted."""
    numbers = metrics()
    with logging_to("json") as stream:
        report = make_reporter(numbers, decisions=decisions)
        for decision in (ALLOW, WOULD_DENY, DENY):
            report(CheckRecord(decision, "id", None, 0.0))
    outcomes = ["allow", "would_deny", "deny"][-len(logged) :] if logged else []
    assert [line["decision"] for line in parsed(stream)] == outcomes
    assert numbers.registry.get_sample_value("authz_check_duration_seconds_count") == 3


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_hostile_requests_make_one_short_line_each(log_format: str) -> None:
    """Newlines, escapes and 100 KB in path, method, host, kid, subject or header: one line of printable ASCII."""
    corpus = list(hostile.requests())
    with logging_to(log_format) as stream:
        for request in corpus:
            judge(request, report=make_reporter())
    lines = stream.getvalue().removesuffix("\n").split("\n")
    assert len(lines) == len(corpus)
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 12_000
    if log_format == "json":
        assert {line["message"] for line in parsed(stream)} >= {"deny token_missing", "allow authenticated"}


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_token_is_in_any_line(log_format: str) -> None:
    """Neither payload nor signature of any token, good or bad, is logged, at debug level and where it stands twice."""
    with logging_to(log_format, level="debug") as stream:
        for request in hostile.requests():
            judge(request, report=make_reporter())
    text = stream.getvalue()
    segments = {segment for token in hostile.tokens() for segment in token.split(".") if len(segment) > 16}
    assert len(segments) > 20
    assert not [segment for segment in segments if segment[:40] in text or segment[-40:] in text]


def test_what_broke_is_logged_without_the_token() -> None:
    """The traceback of an internal error has no token in it."""
    token = mint()

    def fail(*_: object) -> tuple[Key, Verified]:
        raise MemoryError

    with logging_to("json") as stream:
        judge(
            ask(token),
            report=make_reporter(),
            snapshot=replace(DEFAULT_SNAPSHOT, verify_signature=fail),
        )
    error, decision = parsed(stream)
    assert "MemoryError" in error["exc_info"]
    assert decision["reason"] == "internal_error"
    assert not [segment for segment in token.split(".") if segment in stream.getvalue()]


# Reports that fail.


class _BrokenSpans:
    def write_check(self, record: CheckRecord, parent: TraceParent | None) -> TraceContext | None:
        raise MemoryError("no span")


class _BrokenMetrics(Metrics):
    def count(self, record: CheckRecord, trace: TraceContext | None = None) -> None:
        raise ValueError("no number")


class _BrokenLog(DecisionLog):
    def write(self, record: CheckRecord, *, log_client: bool, trace: TraceContext | None = None) -> None:
        raise OSError("no line")


REPORTING = Reporting(decisions="all", log_client=True)


@pytest.mark.parametrize("broken", ["span", "metrics", "log"])
def test_a_report_that_fails_changes_no_decision(broken: str) -> None:
    """An allow stays an allow and a denial keeps its reason; each failure is counted, the first one has a line."""
    numbers = (_BrokenMetrics if broken == "metrics" else Metrics)(insecure_options=0, label_rules=True)
    decision_log = (_BrokenLog if broken == "log" else DecisionLog)(numbers, monotonic=lambda: 0.0)
    spans = _BrokenSpans() if broken == "span" else None
    with logging_to("json") as stream:
        checker = make_checker(report=reporter(numbers, decision_log, REPORTING, spans=spans))
        allowed = [checker.check(write_check(ask(mint())), received=0.0, time_left=None) for _ in range(3)]
        denied = checker.check(write_check(ask()), received=0.0, time_left=None)
    assert [read(cast("bytes", answer)).status.code for answer in allowed] == [0, 0, 0]
    assert told(cast("bytes", denied)) == "token_missing"
    failed = numbers.registry.get_sample_value("authz_reports_failed_total", {"part": broken})
    assert failed == 4
    lines = parsed(stream)
    assert [line["level"] for line in lines if "exc_info" in line] == ["ERROR"]
    if broken != "log":  # the other parts are still reported
        assert [line["decision"] for line in lines if "decision" in line] == ["allow"] * 3 + ["deny"]
    if broken != "metrics":
        assert numbers.registry.get_sample_value("authz_check_duration_seconds_count") == 4


def test_a_report_of_which_everything_fails_raises_nothing() -> None:
    """Not even where the failure itself can be neither counted nor logged."""

    class Nothing(_BrokenMetrics):
        def count_failed_report(self, part: object) -> None:
            raise SystemError("no number of that either")

    class NoClients(_BrokenLog):
        def count_failure(self, record: CheckRecord) -> None:
            raise KeyError("no client")

    numbers = Nothing(insecure_options=0, label_rules=True)
    report = reporter(numbers, NoClients(numbers, monotonic=lambda: 0.0), REPORTING, spans=_BrokenSpans())
    with logging_to("json"):
        report(CheckRecord(DENY, "id", None, 0.0))
