"""What there is to report of one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from authz.core.decision import Decision
from authz.core.record import record
from authz.core.request import Request

Metadata = Sequence[tuple[str, str | bytes]]
"""The metadata of a gRPC call, names in lower case."""


@record
class Judged:
    """A decision, the request (None where unreadable), and the *seconds* from the call's look-up to its answer.

    *metadata* is what Envoy sent with the call: in it is the span that asks.
    """

    decision: Decision
    decision_id: str
    request: Request | None
    seconds: float
    metadata: Metadata = ()


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a trace a decision is told: ids in lower-case hex. Without a span of ours there is no *span_id*."""

    trace_id: str
    span_id: str | None = None
