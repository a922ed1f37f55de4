"""What is reported about one Check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from authz.core.decision import Decision
from authz.core.record import record
from authz.core.request import Request

Metadata = Sequence[tuple[str, str | bytes]]
"""The metadata of a gRPC call, names in lower case."""


@record
class CheckRecord:
    """A decision, its request (None if it could not be decoded), and the *seconds* from acceptance to answer.

    *metadata* is what Envoy sent with the call: it contains Envoy's span.
    """

    decision: Decision
    decision_id: str
    request: Request | None
    seconds: float
    metadata: Metadata = ()


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace of a decision and its span: ids in lower-case hex. *span_id* is None if no span was written."""

    trace_id: str
    span_id: str | None = None
