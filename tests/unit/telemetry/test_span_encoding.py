"""Proves authz.telemetry.span_encoding: what is sent is what the SDK's own encoder would have sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from google.protobuf.message import Message
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from authz import __version__
from authz.core.authorize import authorize
from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.check_span import CheckSpan, as_sdk_span, expired_for, shape_of
from authz.telemetry.span_encoding import SDK_IS_SUPPORTED, CheckSpanExporter, encode
from tests.fixtures import DEFAULT_SNAPSHOT, T, ask, decide, make_snapshot, mint, rule
from tests.unit.telemetry import hostile

RESOURCE = Resource({"service.name": "test", "k8s.pod.name": "p1"}, schema_url="https://schema.test")
TRACE, SPAN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "0000000000000001"


def span_of(record: CheckRecord, *, parent_id: str | None = PARENT, keys_age: float | None = 12.5) -> CheckSpan:
    """Return what is remembered of a check."""
    return CheckSpan(
        T * 10**9 + 7,
        int(record.seconds * 1e9),
        TRACE,
        SPAN,
        parent_id,
        record.decision_id,
        keys_age,
        expired_for(record, T),
        shape_of(record),
    )


def decisions() -> Iterator[Decision]:
    """Yield one decision for each way to set an attribute."""
    yield decide(mint())
    yield decide()
    yield decide(mint(exp=T - 90.0))
    yield decide(mint(exp=T - 90), snapshot=make_snapshot(rule("shadow", "/items/**", shadow=True)))
    yield Allow(reason=Reason.PUBLIC, trail=AuditTrail())
    yield Allow(reason=Reason.AUTHENTICATED, trail=AuditTrail(signature_cached=True, thumbprint="t" * 43))
    yield Deny(Reason.PDP_DENIED, AuditTrail(pdp="policies", rule="r" * 300, issuer="i" * 300))
    for reason in Reason:
        yield Deny(reason)


def spans() -> list[CheckSpan]:
    """Return the spans of these, and of all that an attacker sends."""
    records = [CheckRecord(decision, "0" * 16, ask(), 0.0002) for decision in decisions()]
    records += [
        CheckRecord(authorize(request, DEFAULT_SNAPSHOT, T), f"{number:x}", request, 0.5)
        for number, request in enumerate(hostile.requests())
    ]
    records.append(CheckRecord(Deny(Reason.OVERLOADED), "", None, 0.0))
    made = [span_of(record) for record in records]
    made.append(span_of(records[0], parent_id=None, keys_age=None))
    made.append(made[0]._replace(keys_age=0.0, expired_for=-1, duration=0))
    return made


def normalized(message: Message) -> ExportTraceServiceRequest:
    """Return a request with the attributes of each span in the order of their names: the order means nothing."""
    request = ExportTraceServiceRequest.FromString(message.SerializeToString())
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                ordered = sorted(span.attributes, key=lambda attribute: attribute.key)
                span.ClearField("attributes")
                span.attributes.extend(ordered)
            ordered_spans = sorted(scope.spans, key=lambda span: span.SerializeToString(deterministic=True))
            scope.ClearField("spans")
            scope.spans.extend(ordered_spans)
    return request


def refreshes() -> Sequence[ReadableSpan]:
    """Return a span that the SDK made, by the tracer that the sidecar uses."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.get_tracer("authz", __version__).start_span("authz.keys.refresh", attributes={"authz.issuer": "a"}).end()
    return memory.get_finished_spans()


def test_each_span_is_what_the_sdk_makes_of_it() -> None:
    """Names, ids, times, flags, status and attributes; field by field, whatever the decision and the request are."""
    made = spans()
    assert len(made) > 150
    for span in made:
        # The encoder of the SDK writes one span of each batch; here ours writes the one that is looked at.
        ours = normalized(encode([span, made[0]], RESOURCE))
        theirs = normalized(encode_spans([as_sdk_span(each, RESOURCE) for each in (span, made[0])]))
        assert ours == theirs


def test_a_batch_is_one_message_with_all_its_spans() -> None:
    """Spans of refreshes and of checks have one resource and one scope, as if the SDK had made them all."""
    made = spans()
    refreshed = refreshes()
    ours = encode([*refreshed, *made], RESOURCE)
    theirs = encode_spans([*refreshed, *(as_sdk_span(span, RESOURCE) for span in made)])
    assert [len(scope.spans) for each in ours.resource_spans for scope in each.scope_spans] == [len(made) + 1]
    assert normalized(ours) == normalized(theirs)


def test_a_batch_without_checks_is_the_sdks() -> None:
    """Keys are refreshed while no request comes."""
    refreshed = refreshes()
    assert encode(refreshed, RESOURCE) == encode_spans(refreshed)


def test_nothing_of_a_request_waits() -> None:
    """What is remembered until the export is small, however long the texts of a token are."""
    widest = "x" * 100_000
    trail = AuditTrail(alg=widest, kid=widest, subject=widest, audience=[widest])
    span = span_of(CheckRecord(Deny(Reason.ALG_NOT_ALLOWED, trail), "id", ask(widest, method=widest), 0.0))
    assert max(len(value) for value in (*span, *span.shape) if isinstance(value, str)) < 210
    assert {type(value) for value in (*span[:-1], *span.shape)} <= {str, int, float, bool, Reason, type(None)}


def test_the_installed_sdk_has_the_method_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is private: without it spans would be exported by the SDK's encoder, at its price."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    exporter = CheckSpanExporter(RESOURCE)
    try:
        made = spans()
        assert SDK_IS_SUPPORTED
        assert exporter._translate_data(made) == encode(made, RESOURCE)
    finally:
        exporter.shutdown()


def test_a_shape_is_shared_only_by_equal_spans() -> None:
    """A remembered part of one decision is never sent for another."""
    record = CheckRecord(decide(mint()), "id", ask(), 0.0)
    other = CheckRecord(replace(record.decision, trail=replace(record.decision.trail, kid="other")), "id", ask(), 0.0)
    assert encode([span_of(record)] * 2, RESOURCE) != encode([span_of(other)] * 2, RESOURCE)
