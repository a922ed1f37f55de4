"""Spans of Checks in OTLP, encoded in parts: the SDK's encoder takes 50 us a span, longer than most checks.

The SDK's exporter sends them, and its encoder writes the frame of each batch. What spans share is encoded once, and the
rest is concatenated: the concatenation of two encoded messages decodes to the merged message (Protocol Buffers,
"Encoding": fields may come in any order, and repeated ones are appended).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, SpanFlags
from opentelemetry.proto.trace.v1.trace_pb2 import Status as WireStatus
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from authz.telemetry import names
from authz.telemetry.check_span import CheckSpan, Shape, Value, as_sdk_span, shared_attributes, status_of

_SHAPES: Final = 1024  # encoded parts that are cached, of about 400 bytes each
_ID_LENGTHS: Final = 8  # ids have one
# Fields of opentelemetry.proto.trace.v1.Span, as tag and, for bytes, length.
_TRACE_ID: Final = b"\x0a\x10"
_SPAN_ID: Final = b"\x12\x08"
_PARENT_ID: Final = b"\x22\x08"
_TIMES: Final = struct.Struct("<BQBQ")  # start_time_unix_nano and end_time_unix_nano
_START_TAG: Final = 0x39
_END_TAG: Final = 0x41
_DOUBLE: Final = struct.Struct("<d")


def encode(spans: Sequence[CheckSpan | ReadableSpan], resource: Resource) -> ExportTraceServiceRequest:
    """Return the request that exports *spans*, all of which have this *resource*."""
    checks = [span for span in spans if isinstance(span, CheckSpan)]
    framed = [span for span in spans if not isinstance(span, CheckSpan)]
    if checks:
        framed.append(as_sdk_span(checks.pop(), resource))
    request = encode_spans(framed)
    if checks:
        # All spans have one resource and one scope.
        request.resource_spans[0].scope_spans[0].MergeFromString(b"".join(map(_encode_field, checks)))
    return request


class CheckSpanExporter(OTLPSpanExporter):
    """The SDK's exporter over gRPC, which takes spans of Checks as well as the SDK's own; all have this *resource*."""

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        self._resource: Final = resource

    def _translate_data(self, data: Sequence[CheckSpan | ReadableSpan]) -> ExportTraceServiceRequest:
        return encode(data, self._resource)


SDK_IS_SUPPORTED: Final = "_translate_data" in vars(OTLPSpanExporter)
"""Whether the installed SDK has the private method that `CheckSpanExporter` overrides."""


def _encode_field(span: CheckSpan) -> bytes:
    """Encode *span* as a field of a ScopeSpans."""
    end, duration, trace_id, span_id, parent_id, decision_id, keys_age, expired_for, shape = span
    of_id = decision_id.encode()
    parent = b"" if parent_id is None else _PARENT_ID + bytes.fromhex(parent_id)
    message = b"".join(
        (
            _encode_shape(shape, parent_id is not None),
            *(_TRACE_ID, bytes.fromhex(trace_id), _SPAN_ID, bytes.fromhex(span_id), parent),
            _TIMES.pack(_START_TAG, end - duration, _END_TAG, end),
            *(_id_prefix(len(of_id)), of_id),
            b"" if keys_age is None else _AGE_PREFIX + _DOUBLE.pack(keys_age),
            b"" if expired_for is None else _attribute(names.TOKEN_EXPIRED_FOR_S, expired_for),
        )
    )
    return b"%c%b%b" % (_SPANS_TAG, _varint(len(message)), message)


_SPANS_TAG: Final = ScopeSpans.SPANS_FIELD_NUMBER << 3 | 2


@lru_cache(maxsize=_SHAPES)
def _encode_shape(shape: Shape, has_parent: bool) -> bytes:  # noqa: FBT001 - a key of the cache
    """Encode what the spans of one *shape* have in common."""
    is_known = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    flags = is_known | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK if has_parent else is_known
    attributes = b"".join(_attribute(name, value) for name, value in shared_attributes(shape).items())
    span = Span(
        name=names.CHECK_SPAN,
        kind=Span.SPAN_KIND_SERVER,
        status=WireStatus(code=WireStatus.StatusCode.ValueType(status_of(shape).value)),
        flags=flags,
    )
    return span.SerializeToString() + attributes


@lru_cache(maxsize=_ID_LENGTHS)
def _id_prefix(length: int) -> bytes:
    """Encode the attribute of a decision id of *length* octets, up to the id itself, which is the last thing in it."""
    return _attribute(names.DECISION_ID, "0" * length).removesuffix(b"0" * length)


def _attribute(name: str, value: Value) -> bytes:
    """Encode an attribute as a field of a Span."""
    if isinstance(value, str):
        wire = AnyValue(string_value=value)
    elif isinstance(value, int):
        wire = AnyValue(int_value=value)
    else:
        wire = AnyValue(double_value=value)
    return Span(attributes=[KeyValue(key=name, value=wire)]).SerializeToString()


_AGE_PREFIX: Final = _attribute(names.KEYS_AGE_S, 1.0).removesuffix(_DOUBLE.pack(1.0))


def _varint(number: int) -> bytes:
    """Encode a length: seven bits an octet, the lowest first."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
