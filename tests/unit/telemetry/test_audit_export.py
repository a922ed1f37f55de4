"""Proves authz.telemetry.audit_export: a decision as a log record, and that a lost collector costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

import pytest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.reasons import Reason
from authz.telemetry.audit_export import AuditExport, start_audit_export
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.metrics import Metrics
from authz.telemetry.otlp import ExportError
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.fixtures import T, ask, decide, mint
from tests.unit.telemetry import hostile
from tests.unit.telemetry.capturing import logging_to, parsed

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads how long it pauses from its own variable."""
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "10")


class Rig:
    """A decision log whose lines are exported too, by default into memory; the clock stands at T."""

    def __init__(self, exporter: LogRecordExporter | None = None, *, max_waiting: int = 1000) -> None:
        self.memory = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # it has none
        self.dropped = 0
        self.export = AuditExport(
            exporter or self.memory,
            resource=Resource({"service.name": "test"}),
            max_waiting=max_waiting,
            now_ns=lambda: T * 10**9,
            dropped=self.drop,
        )
        metrics = Metrics(insecure_options=0, label_rules=True)
        self.log = DecisionLog(metrics, monotonic=lambda: 0.0, export=self.export.write)

    def drop(self, number: int) -> None:
        self.dropped += number

    def write(self, decision: Decision, trace: TraceContext | None = None, **request: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - fields of a request
        """Write a decision, and return the lines."""
        with logging_to() as stream:
            self.log.write(CheckRecord(decision, "id", ask(**request), 0.001), log_client=True, trace=trace)
        return parsed(stream)

    def records(self) -> list[Any]:
        """Stop, and return what was exported."""
        self.export.stop(seconds=HANG_SECONDS)
        return [each.log_record for each in self.memory.get_finished_logs()]


def test_a_record_says_what_the_line_says() -> None:
    """Under the names of the semantic conventions, at the time of the decision, in the decision's trace."""
    rig = Rig()
    trail = AuditTrail(
        "items", "a", "RS256", "k1", audience=["billing"], expected_audience=frozenset({"api"}), subject="bob"
    )
    headers = {"x-request-id": "r-1"}
    (line,) = rig.write(
        Deny(Reason.AUDIENCE_MISMATCH, trail, "aud"),
        TraceContext(TRACE, SPAN),
        headers=headers,
        source_address="192.0.2.7",
    )
    (record,) = rig.records()
    assert (record.timestamp, record.body, record.event_name) == (
        T * 10**9,
        "deny audience_mismatch",
        "authz.decision",
    )
    assert (record.severity_text, f"{record.trace_id:032x}", f"{record.span_id:016x}") == ("WARN", TRACE, SPAN)
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in record.attributes.items()} == {
        "authz.decision": "deny",
        "authz.reason": "audience_mismatch",
        "authz.detail": "aud",
        "authz.decision_id": "id",
        "authz.rule": "items",
        "authz.issuer": "a",
        "authz.token.alg": "RS256",
        "authz.token.kid": "k1",
        "authz.token.audience": ["billing"],
        "authz.expected_audience": ["api"],
        "authz.duration_us": 1000,
        "http.request.header.x-request-id": ["r-1"],
        "http.request.method": "GET",
        "server.address": "api.test",
        "url.path": "/items/1",
        "client.address": "192.0.2.7",
        "user.id": "bob",
    }
    assert line["decision_id"] == "id"


def test_an_allow_is_information_and_has_no_trace_of_this_thread() -> None:
    """Where there is no trace the record has none; a trace without a span of ours has its id alone."""
    rig = Rig()
    allow = Allow(reason=Reason.PUBLIC, trail=AuditTrail())
    rig.write(allow)
    rig.write(allow, TraceContext(TRACE))
    bare, traced = rig.records()
    assert (bare.severity_text, bare.trace_id, bare.span_id) == ("INFO", 0, 0)
    assert (f"{traced.trace_id:032x}", traced.span_id) == (TRACE, 0)


def test_no_token_is_in_a_record() -> None:
    """Whatever an attacker sends: a record says what the redacted line says."""
    rig = Rig()
    for request in hostile.requests():
        with logging_to():
            rig.log.write(CheckRecord(decide(mint()), "id", request, 0.0), log_client=True)
    text = repr([record.attributes for record in rig.records()])
    assert all(token not in text for token in hostile.tokens())
    assert "\\n" not in text.replace("\\\\n", "")


class Stuck(LogRecordExporter):
    """A collector that does not answer until it is let go."""

    def __init__(self, result: LogRecordExportResult = LogRecordExportResult.FAILURE) -> None:
        self.result = result
        self.go = Event()
        self.asked = Event()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.asked.set()
        self.go.wait(HANG_SECONDS)
        return self.result

    def shutdown(self) -> None:
        self.go.set()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """A collector that is let go at the end."""
    exporter = Stuck()
    yield exporter
    exporter.go.set()


def test_a_collector_that_is_stuck_costs_no_memory(stuck: Stuck) -> None:
    """So many records wait, and each further one is dropped and counted at once; the line is written all the same."""
    rig = Rig(stuck, max_waiting=3)
    lines = [line for _ in range(10) for line in rig.write(Deny(Reason.TOKEN_MISSING))]
    assert len(lines) == 10
    assert rig.dropped == 7
    rig.export.stop(seconds=HANG_SECONDS)
    assert rig.dropped == 10


def test_a_collector_that_refuses_is_counted(stuck: Stuck) -> None:
    """What it did not take is lost, and there is room again."""
    rig = Rig(stuck, max_waiting=3)
    rig.write(Deny(Reason.TOKEN_MISSING))
    stuck.go.set()
    wait_until(lambda: rig.dropped == 1)
    rig.write(Deny(Reason.TOKEN_MISSING))
    wait_until(lambda: rig.dropped == 2)
    rig.export.stop(seconds=HANG_SECONDS)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "x"}, "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: 'x' is not supported"),
        ({"OTEL_BLRP_MAX_QUEUE_SIZE": "many"}, "OTEL_BLRP_MAX_QUEUE_SIZE: 'many' is not a number of log records"),
        ({"OTEL_BLRP_MAX_QUEUE_SIZE": "0"}, "logs cannot be exported as the OTEL_* variables ask: "),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str) -> None:
    """Rather than exporting to nowhere in silence."""
    with pytest.raises(ExportError) as error:
        start_audit_export(dropped=lambda _: None, environment=environment)
    assert str(error.value).startswith(message)


def test_it_starts_without_a_collector() -> None:
    """Which may come later."""
    start_audit_export(dropped=lambda _: None, environment={}).stop()
