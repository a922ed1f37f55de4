"""The decision log: one line for each decision to be logged, and none left out without being counted.

Rules of this file:
1. Text that a client chose is truncated and made printable. It never contains a token, nor a claim except the subject.
2. A flood is summarised: for each kind of denial at most `max_lines` lines are logged per period, and one line reports
   how many more there were. Allows are logged only if the operator asked for all decisions, and then all of them.
3. The clients with the most failures are reported once per period, from a count of bounded size.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from threading import Lock
from typing import Final

from authz.core.decision import Deny, outcome
from authz.core.reasons import WIRE_STATUS, Reason
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.heavy_hitters import HeavyHitters
from authz.telemetry.metrics import Metrics
from authz.telemetry.redaction import printable

log = logging.getLogger("authz.decisions")

PERIOD: Final = 60.0  # seconds between two summaries
MAX_LINES: Final = 1_000  # per period, for each kind of denial
MAX_CLIENTS: Final = 64  # counted at one time
MAX_NAMED: Final = 10  # clients in a summary
MANY_FAILURES: Final = 30  # of one client in a period; a client with fewer is not named

_Kind = tuple[str, str]


class DecisionLog:
    """Writes lines about decisions; its owner calls `summarise` every PERIOD, and at the end."""

    def __init__(self, metrics: Metrics, *, monotonic: Callable[[], float], max_lines: int = MAX_LINES) -> None:
        self._metrics: Final = metrics
        self._monotonic: Final = monotonic
        self._max_lines: Final = max_lines
        self._lines: dict[_Kind, int] = {}  # to be logged in this period; there are as many kinds as reasons
        self._since = monotonic()
        self._failures: Final = HeavyHitters(max_names=MAX_CLIENTS)
        self._lock: Final = Lock()

    def count_failure(self, record: CheckRecord) -> None:
        """Count a denial, real or in shadow, against the client's address, unless it is a server error."""
        if record.request is not None and WIRE_STATUS[record.decision.reason].http < 500:
            self._failures.count(_network(record.request.source_address))

    def write(self, record: CheckRecord, *, log_client: bool, trace: TraceContext | None = None) -> None:
        """Write one line about a decision, or only count it if there were too many of its kind."""
        decision, request, trail = record.decision, record.request, record.decision.trail
        kind = (outcome(decision), decision.reason.value)
        if (isinstance(decision, Deny) or decision.would_deny) and not self._has_room(kind):
            return
        fields: dict[str, object] = {
            "decision": kind[0],
            "reason": kind[1],
            "detail": decision.detail,
            "decision_id": record.decision_id,
            "rule": trail.rule,
            "issuer": trail.issuer,
            "alg": printable(trail.alg),
            "kid": printable(trail.kid),
            "duration_us": round(record.seconds * 1e6),
        }
        if trace is not None:
            fields["trace_id"] = trace.trace_id
            if trace.span_id is not None:
                fields["span_id"] = trace.span_id
        if decision.reason is Reason.ISSUER_UNKNOWN:
            fields["claimed_issuer"] = printable(trail.claimed_issuer)
        if decision.reason is Reason.AUDIENCE_MISMATCH:
            fields["audience"] = printable(json.dumps(trail.audience))
        if request is not None:
            fields |= {
                "request_id": printable(request.headers.get("x-request-id")),
                "method": printable(request.method),
                "host": printable(request.host),
                "path": printable(request.path.partition("?")[0]),
            }
            if log_client:
                fields |= {"client": printable(request.source_address), "subject": printable(trail.subject)}
        log.info("%s %s", *kind, extra=fields)

    def summarise(self, *, name_clients: bool) -> None:
        """Report denials without lines since the last call and, if clients may be named, those with most failures."""
        now = self._monotonic()
        with self._lock:
            lines, self._lines = self._lines, {}
            since, self._since = self._since, now
        seconds = round(now - since)
        for (decision, reason), wanted in lines.items():
            more = wanted - self._max_lines
            if more > 0:
                fields = {"decision": decision, "reason": reason, "count": more, "seconds": seconds}
                log.warning("%d more: %s %s", more, decision, reason, extra=fields)
        hitters = self._failures.take()
        self._metrics.show_client_failures(max((hitter.count - hitter.error_bound for hitter in hitters), default=0))
        if name_clients:
            for hitter in hitters[:MAX_NAMED]:
                certain = hitter.count - hitter.error_bound
                if certain >= MANY_FAILURES:
                    fields = {"client": hitter.name, "failures": certain, "seconds": seconds}
                    log.warning("many failures of one client", extra=fields)

    def _has_room(self, kind: _Kind) -> bool:
        with self._lock:
            wanted = self._lines[kind] = self._lines.get(kind, 0) + 1
        if wanted > self._max_lines:
            self._metrics.count_summarised(1)
            return False
        return True


def _network(address: str) -> str:
    """Return *address*, or the /64 network of an IPv6 address, all of which one client may use."""
    if ":" in address:
        try:
            return str(ip_network((IPv6Address(address), 64), strict=False))
        except ValueError:
            pass
    return printable(address) or ""
