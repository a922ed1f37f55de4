"""Proves authz.telemetry.spans: what a span contains, whose child it is, and that a lost collector costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from authz.core.decision import AuditTrail, Decision, Deny
from authz.core.keys import Verified
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord, Metadata, TraceContext
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.keys import Refresh
from authz.telemetry.metrics import Metrics
from authz.telemetry.report import Reporting, reporter
from authz.telemetry.spans import Spans
from authz.telemetry.traceparent import TraceParent
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.fixtures import T, ask, decide, make_snapshot, mint, rule
from tests.unit.telemetry import hostile

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED: Metadata = (("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", ""))
UNSAMPLED: Metadata = (("traceparent", f"00-{TRACE}-{SPAN}-00"),)


class Rig:
    """Spans that go to *exporter*, by default into memory; the clock stands at T."""

    def __init__(self, exporter: SpanExporter | None = None, *, max_waiting: int = 1000) -> None:
        self.memory = InMemorySpanExporter()
        self.dropped = 0
        self.spans = Spans(
            exporter or self.memory,
            resource=Resource({"service.name": "test"}),
            max_waiting=max_waiting,
            pause_millis=10.0,
            now_ns=lambda: T * 10**9,
            keys_age={"a": 12.5}.get,
            dropped=self.drop,
        )

    def drop(self, number: int) -> None:
        self.dropped += number

    def written(self) -> list[ReadableSpan]:
        """Stop, and return what was exported."""
        self.spans.stop(seconds=HANG_SECONDS)
        return list(self.memory.get_finished_spans())


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue as small as these tests need it."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")


def record(decision: Decision, **request: Any) -> CheckRecord:  # noqa: ANN401 - of ask
    """Say how a request was evaluated within 2 ms."""
    return CheckRecord(decision, "id1", ask(**request), 0.002)


def attributes(decision: Decision, **request: Any) -> dict[str, object]:  # noqa: ANN401 - of ask
    """Return the attributes of the span of a decision."""
    rig = Rig()
    rig.spans.write_check(record(decision, **request), None)
    (span,) = rig.written()
    return dict(span.attributes or {})


LIKE_A_TOKEN = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEiLCJ0eXAiOiJ"
RPC = {
    "rpc.system.name": "grpc",
    "rpc.method": "envoy.service.auth.v3.Authorization/Check",
    "rpc.response.status_code": "OK",
    "authz.decision_id": "id1",
    "http.request.method": "GET",
}
KEY = {"authz.issuer": "a", "authz.keys.age_s": 12.5, "authz.token.alg": "RS256", "authz.token.kid": "a-rsa"}


def test_a_span_tells_of_an_allow() -> None:
    """A SERVER span from the look-up of the call to its answer, child of the caller's, with all that was found."""
    rig = Rig()
    trace = rig.spans.write_check(record(decide(mint())), TraceParent(TRACE, SPAN, sampled=True))
    (span,) = rig.written()
    assert (span.name, span.kind) == ("envoy.service.auth.v3.Authorization/Check", SpanKind.SERVER)
    assert (span.start_time, span.end_time) == (T * 10**9 - 2_000_000, T * 10**9)
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id, span.parent.is_remote) == (int(TRACE, 16), int(SPAN, 16), True)
    assert trace == TraceContext(TRACE, f"{span.context.span_id:016x}")
    found = {
        "authz.decision": "allow",
        "authz.reason": "authenticated",
        "authz.rule": "items",
        "authz.signature_cache": "miss",
    }
    assert dict(span.attributes or {}) == RPC | KEY | found


def test_a_span_tells_of_a_denial() -> None:
    """Reason and HTTP status of the answer; a denial is no error."""
    assert attributes(decide()) == RPC | {
        "authz.decision": "deny",
        "authz.reason": "token_missing",
        "authz.rule": "items",
        "http.response.status_code": 401,
    }


@pytest.mark.parametrize("exp", [T - 90, T - 90.0])
def test_an_expired_token_says_for_how_long(exp: float) -> None:
    """The first thing that is asked about a token that does not work any more."""
    found = attributes(decide(mint(exp=exp)))
    assert (found["authz.reason"], found["authz.token.expired_for_s"]) == ("token_expired", 90)


def test_a_proof_names_its_key() -> None:
    """The thumbprint stands as it is, even one that begins like a token: it is a hash, and is compared."""
    assert (
        attributes(Deny(Reason.INSUFFICIENT_SCOPE, AuditTrail(thumbprint=LIKE_A_TOKEN)))["authz.proof.thumbprint"]
        == LIKE_A_TOKEN
    )
    assert "authz.proof.thumbprint" not in attributes(decide())


def test_a_decision_names_the_pdp_that_was_asked() -> None:
    """By its configured name, as in the log."""
    assert attributes(Deny(Reason.PDP_DENIED, AuditTrail(pdp="policies")))["authz.pdp"] == "policies"
    assert "authz.pdp" not in attributes(decide())


def test_a_shadow_tells_what_it_would_have_done() -> None:
    """The request passes, hence without a status; decision and reason are the refusal's."""
    found = attributes(decide(mint(exp=T - 90), snapshot=make_snapshot(rule("shadow", "/items/**", shadow=True))))
    assert (found["authz.decision"], found["authz.reason"]) == ("would_deny", "token_expired")
    assert found["authz.token.expired_for_s"] == 90
    assert "http.response.status_code" not in found


def test_an_internal_error_is_an_error() -> None:
    """It alone sets the status of the span; a call that could not be read has a span too."""
    rig = Rig()
    rig.spans.write_check(CheckRecord(Deny(Reason.INTERNAL_ERROR), "id1", None, 0.0), None)
    (span,) = rig.written()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "internal_error"
    assert span.parent is None


def test_a_remembered_signature_shows() -> None:
    """Hit where the arithmetic was saved."""
    good = make_snapshot(verify_signature=lambda _issuer, keys, _token: (keys[0], Verified.CACHED))
    assert attributes(decide(mint(), snapshot=good))["authz.signature_cache"] == "hit"


@pytest.mark.parametrize("method", ["BREW", "get", "x" * 100_000, "\ud800"])
def test_an_unknown_method_is_another(method: str) -> None:
    """A client makes up no value of an attribute that operators group by."""
    assert attributes(decide(), method=method)["http.request.method"] == "_OTHER"


@pytest.mark.parametrize(
    ("result", "status"), [(Refresh.UPDATED, StatusCode.UNSET), (Refresh.TIMEOUT, StatusCode.ERROR)]
)
def test_a_refresh_is_a_root(result: Refresh, status: StatusCode) -> None:
    """A CLIENT span of its own trace for each refresh, an error where it brought nothing."""
    rig = Rig()
    rig.spans.write_refresh("corporate", result, 0.25)
    (span,) = rig.written()
    assert (span.kind, span.parent, span.status.status_code) == (SpanKind.CLIENT, None, status)
    assert (span.end_time or 0) - (span.start_time or 0) == 250_000_000
    found = span.attributes or {}
    assert (found["authz.issuer"], found["authz.keys.refresh.result"]) == ("corporate", result.value)
    assert found.get("error.type") == (None if status is StatusCode.UNSET else result.value)


def test_hostile_text_is_printable_and_cut() -> None:
    """A lone surrogate would lose a whole batch, a long text its bound."""
    rig = Rig(max_waiting=10_000)
    for request in hostile.requests():
        rig.spans.write_check(CheckRecord(Deny(Reason.ALG_NOT_ALLOWED), "id", request, 0.0), None)
    for text in hostile.TEXTS:
        rig.spans.write_check(
            CheckRecord(Deny(Reason.ALG_NOT_ALLOWED, AuditTrail(alg=text, kid=text)), "id", None, 0.0), None
        )
    written = rig.written()
    assert len(written) > 200
    for span in written:
        for value in (span.attributes or {}).values():
            assert isinstance(value, int | float) or (
                isinstance(value, str) and value.isprintable() and len(value) < 3000
            )


# Sampling.


class Recorder:
    """Takes spans, and says where they are."""

    def __init__(self) -> None:
        self.parents: list[TraceParent | None] = []

    def write_check(self, record: CheckRecord, parent: TraceParent | None) -> TraceContext | None:
        self.parents.append(parent)
        return TraceContext("t" * 32, "s" * 16)


def report(metadata: Metadata, *, ratio: float = 1.0, chance: float = 0.5, trust: bool = False, **request: Any) -> Any:  # noqa: ANN401
    """Report one allow; return the parents that spans were written below, and the metrics."""
    spans, metrics = Recorder(), Metrics(insecure_options=0, label_rules=True)
    reporting = Reporting(decisions="none", log_client=True, sample_ratio=ratio, trust_client=trust)
    log = DecisionLog(metrics, monotonic=lambda: 0.0)
    tell = reporter(metrics, log, reporting, spans=spans, random=lambda: chance)
    tell(CheckRecord(decide(mint()), "id", ask(**request), 0.0001, metadata))
    return spans.parents


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_the_sampled_bit_of_the_parent_decides(ratio: float) -> None:
    """Whatever the ratio is: a trace is kept whole, or not at all, and then the SDK is not asked."""
    assert report(SAMPLED, ratio=ratio) == [TraceParent(TRACE, SPAN, sampled=True)]
    assert report(UNSAMPLED, ratio=ratio) == []


def test_the_ratio_is_for_calls_without_a_parent() -> None:
    """All, none, or a share."""
    assert report((), ratio=1.0, chance=0.999) == [None]
    assert report((), ratio=0.0, chance=0.0) == []
    assert report((), ratio=0.3, chance=0.29) == [None]
    assert report((), ratio=0.3, chance=0.31) == []


def test_a_client_is_trusted_only_where_the_operator_says_so() -> None:
    """Its traceparent is a parent with insecure.trust_client_traceparent, and nothing without."""
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    assert report((), ratio=0.0, headers=headers) == []
    assert report((), ratio=1.0, headers=headers) == [None]
    assert report((), ratio=0.0, trust=True, headers=headers) == [TraceParent(TRACE, SPAN, sampled=True)]


# A collector that is away.


class Broken(SpanExporter):
    """Fails, by result or by exception."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.batches = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches += 1
        if self.error is not None:
            raise self.error
        return SpanExportResult.FAILURE


class Stuck(SpanExporter):
    """Answers only once it is shut down, or never."""

    def __init__(self, *, obeys: bool) -> None:
        self.obeys = obeys
        self.asked = Event()
        self.end = Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.end.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        if self.obeys:
            self.end.set()


@pytest.fixture(params=[True, False], ids=["obeys", "ignores"])
def stuck(request: pytest.FixtureRequest) -> Iterator[Stuck]:
    """An exporter that hangs, and whether a shutdown ends that."""
    exporter = Stuck(obeys=request.param)
    yield exporter
    exporter.end.set()


def test_what_is_not_exported_is_counted() -> None:
    """Every span of a batch that the collector did not take."""
    rig = Rig(Broken())
    for _ in range(25):
        rig.spans.write_check(record(decide()), None)
    wait_until(lambda: rig.dropped == 25)
    assert rig.spans.write_check(record(decide()), None) is not None  # there is room again


def test_an_exporter_that_raises_loses_its_batch_only() -> None:
    """The spans are counted, and those after them find room."""
    rig = Rig(Broken(RuntimeError("broken")), max_waiting=10)
    for _ in range(10):
        rig.spans.write_check(record(decide()), None)
    wait_until(lambda: rig.dropped == 10)
    assert rig.spans.write_check(record(decide()), None) is not None


def test_above_the_bound_spans_are_dropped_and_counted(stuck: Stuck) -> None:
    """A collector that hangs holds so many spans and no more; others are not made, and it all ends in time."""
    rig = Rig(stuck, max_waiting=50)
    for _ in range(50):
        assert rig.spans.write_check(record(decide()), None) is not None
    assert stuck.asked.wait(HANG_SECONDS)
    for _ in range(1000):
        assert rig.spans.write_check(record(decide()), None) is None
    assert rig.dropped == 1000

    rig.spans.stop()

    assert rig.dropped == 1050
    assert rig.spans.write_check(record(decide()), None) is None


def test_what_waits_is_exported_at_the_end() -> None:
    """The last decisions before a stop are often those that are asked for."""
    rig = Rig()
    for _ in range(25):
        rig.spans.write_check(record(decide()), None)
    assert len(rig.written()) == 25
    assert rig.dropped == 0
