"""The span of a Check as it waits for its export: a tuple of short texts and numbers, from which all else is made.

Rules of this file:
1. Nothing of a request is referenced: what waits is small, whatever a client sends.
2. Text from a client is truncated when it is recorded, and escaped when it is exported: one invalid character would
   make a whole batch fail.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from authz import __version__
from authz.core.decision import Deny, outcome
from authz.core.reasons import WIRE_STATUS, Reason
from authz.telemetry import names
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.redaction import MAX_CHARS, printable

SCOPE: Final = InstrumentationScope("authz", __version__)

Value = str | int | float
_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_OTHER: Final = "_OTHER"  # the semantic conventions' value for any other method
_STATIC_ATTRIBUTES: Final = {
    names.RPC_SYSTEM_NAME: "grpc",
    names.RPC_METHOD: names.CHECK_SPAN,
    names.RPC_RESPONSE_STATUS_CODE: "OK",  # every call is answered: a denial is no RPC error
}


class Shape(NamedTuple):
    """The values that many spans share. *alg* and *kid* are truncated, not escaped; *cached* is of the signature."""

    outcome: str
    reason: Reason
    rule: str | None
    issuer: str | None
    alg: str | None
    kid: str | None
    thumbprint: str | None
    pdp: str | None
    method: str | None
    cached: bool | None


class CheckSpan(NamedTuple):
    """The span of one call. Times are in nanoseconds, *end* in Unix time; ids are in lower-case hex.

    *parent_id* is None for a root span. *keys_age* and *expired_for* are in seconds; None if they are not known.
    """

    end: int
    duration: int
    trace_id: str
    span_id: str
    parent_id: str | None
    decision_id: str
    keys_age: float | None
    expired_for: int | None
    shape: Shape

    @property
    def context(self) -> SpanContext:
        """The context that the SDK's batch processor reads: the span is sampled."""
        return _SAMPLED


_SAMPLED: Final = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def shape_of(record: CheckRecord) -> Shape:
    """Return the shape of the span of *record*."""
    decision, request = record.decision, record.request
    trail, alg, kid = decision.trail, decision.trail.alg, decision.trail.kid
    if alg is not None and len(alg) > MAX_CHARS:
        alg = alg[: MAX_CHARS + 1]  # the additional one shows that it was truncated
    if kid is not None and len(kid) > MAX_CHARS:
        kid = kid[: MAX_CHARS + 1]
    method = None
    if request is not None:
        method = request.method if request.method in _METHODS else _OTHER
    return Shape._make(
        (
            outcome(decision),
            decision.reason,
            trail.rule,
            trail.issuer,
            alg,
            kid,
            trail.thumbprint,
            trail.pdp,
            method,
            trail.signature_cached,
        )
    )


def expired_for(record: CheckRecord, now: float) -> int | None:
    """Return for how many seconds a token has been expired, if that is why *record* denies."""
    expires = record.decision.trail.expires
    if record.decision.reason is Reason.TOKEN_EXPIRED and isinstance(expires, int | float):
        return round(now - expires)
    return None


def shared_attributes(shape: Shape) -> dict[str, Value]:
    """Return the attributes of all spans of one *shape*."""
    reason = shape.reason
    attributes: dict[str, Value | None] = {
        **_STATIC_ATTRIBUTES,
        names.DECISION: shape.outcome,
        names.REASON: reason.value,
        names.RULE: shape.rule,
        names.ISSUER: shape.issuer,
        names.TOKEN_ALG: printable(shape.alg),
        names.TOKEN_KID: printable(shape.kid),
        names.PROOF_THUMBPRINT: shape.thumbprint,  # a hash of our own making
        names.PDP: shape.pdp,
        names.HTTP_REQUEST_METHOD: shape.method,
    }
    if shape.outcome == _DENIED:
        attributes[names.HTTP_RESPONSE_STATUS_CODE] = WIRE_STATUS[reason].http
    if shape.cached is not None:
        attributes[names.SIGNATURE_CACHE] = "hit" if shape.cached else "miss"
    if reason is Reason.INTERNAL_ERROR:
        attributes[names.ERROR_TYPE] = reason.value
    return {name: value for name, value in attributes.items() if value is not None}


def own_attributes(span: CheckSpan) -> dict[str, Value]:
    """Return the attributes of *span* alone."""
    attributes: dict[str, Value] = {names.DECISION_ID: span.decision_id}
    if span.keys_age is not None:
        attributes[names.KEYS_AGE_S] = span.keys_age
    if span.expired_for is not None:
        attributes[names.TOKEN_EXPIRED_FOR_S] = span.expired_for
    return attributes


def status_of(shape: Shape) -> StatusCode:
    """Return the status: an error of ours is one, a denial is none."""
    return StatusCode.ERROR if shape.reason is Reason.INTERNAL_ERROR else StatusCode.UNSET


def as_sdk_span(span: CheckSpan, resource: Resource) -> ReadableSpan:
    """Return *span* as the SDK's exporters know spans."""
    return ReadableSpan(
        names.CHECK_SPAN,
        context=_context(span.trace_id, span.span_id, is_remote=False),
        parent=None if span.parent_id is None else _context(span.trace_id, span.parent_id, is_remote=True),
        resource=resource,
        attributes={**shared_attributes(span.shape), **own_attributes(span)},
        kind=SpanKind.SERVER,
        status=Status(status_of(span.shape)),
        start_time=span.end - span.duration,
        end_time=span.end,
        instrumentation_scope=SCOPE,
    )


def _context(trace_id: str, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED))


_DENIED: Final = outcome(Deny(Reason.INTERNAL_ERROR))
