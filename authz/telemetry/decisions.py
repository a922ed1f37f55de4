"""The decision log: one line for each decision that is to be logged; omitted lines are counted.

Rules of this file:
1. `audit` defines what is logged of a decision: text from a client is truncated and escaped.
2. A flood is summarised: for each kind of denial at most `max_lines` lines are logged per period, and one line reports
   how many more there were. Allows are logged only if the operator asked for all decisions, and then all of them.
   Another line reports how many calls Envoy no longer waited for: they have no decision.
3. The clients with the most failures are reported once per period, counted in bounded memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_network
from threading import Lock
from typing import Final

from authz.core.decision import outcome
from authz.core.reasons import WIRE_STATUS
from authz.telemetry.audit import audit_entry, is_refused
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.decision_line import LOGGER
from authz.telemetry.heavy_hitters import HeavyHitter, HeavyHitters
from authz.telemetry.logs import log_decision
from authz.telemetry.metrics import Metrics
from authz.telemetry.redaction import printable

log = logging.getLogger(LOGGER)

PERIOD: Final = 60.0  # seconds between two summaries
MAX_LINES: Final = 1_000  # per period, for each kind of denial
MAX_CLIENTS: Final = 64  # counted at one time
MAX_NAMED: Final = 10  # clients in a summary
MANY_FAILURES: Final = 30  # of one client in a period; a client with fewer is not named

_Kind = tuple[str, str]


class DecisionLog:
    """Writes lines about decisions; its owner calls `summarise` every PERIOD, and at the end."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        monotonic: Callable[[], float],
        max_lines: int = MAX_LINES,
        export: Callable[[Mapping[str, object], TraceContext | None], None] | None = None,
    ) -> None:
        """*export* gets the fields of each line, and its trace."""
        self._export: Final = export
        self._metrics: Final = metrics
        self._monotonic: Final = monotonic
        self._max_lines: Final = max_lines
        self._lines: dict[_Kind, int] = {}  # in this period; bounded by the number of reasons
        self._since = monotonic()
        self._failures: Final = HeavyHitters(max_names=MAX_CLIENTS)
        self._last_failures: list[HeavyHitter] = []
        self._cancelled = metrics.cancelled  # that were reported
        self._lock: Final = Lock()

    def count_failure(self, record: CheckRecord) -> None:
        """Count a denial, real or in shadow, against the client's address, unless it is a server error."""
        if record.request is not None and WIRE_STATUS[record.decision.reason].http < 500:
            self._failures.count(_network(record.request.source_address))

    def write(self, record: CheckRecord, *, log_client: bool, trace: TraceContext | None = None) -> None:
        """Write one line about a decision, or only count it if there were too many of its type."""
        decision = record.decision
        kind = (outcome(decision), decision.reason.value)
        if is_refused(decision) and not self._has_room(kind):
            return
        entry = audit_entry(record, 0.0, name_client=log_client)
        trail = decision.trail
        more: list[tuple[str, str]] = []  # all of our own making
        if trail.pdp is not None:
            more.append(("pdp", trail.pdp))
        if trail.transaction is not None:
            more.append(("transaction", trail.transaction))
        if trace is not None:
            more.append(("trace_id", trace.trace_id))
            if trace.span_id is not None:
                more.append(("span_id", trace.span_id))
        log_decision(entry, more)
        if self._export is not None:
            self._export({**entry.fields(), **dict(more)}, trace)

    def summarise(self, *, name_clients: bool) -> None:
        """Report denials without lines and cancelled calls since the last call and, if they may be named, clients."""
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
        cancelled = self._metrics.cancelled
        if more := cancelled - self._cancelled:
            self._cancelled = cancelled
            log.warning("%d cancelled: Envoy stopped waiting", more, extra={"cancelled": more, "seconds": seconds})
        hitters = self._last_failures = self._failures.take()
        self._metrics.show_client_failures(max((hitter.count - hitter.error_bound for hitter in hitters), default=0))
        if name_clients:
            for hitter in hitters[:MAX_NAMED]:
                certain = hitter.count - hitter.error_bound
                if certain >= MANY_FAILURES:
                    fields = {"client": hitter.name, "failures": certain, "seconds": seconds}
                    log.warning("many failures of one client", extra=fields)

    def describe_failures(self) -> dict[str, list[dict[str, object]]]:
        """Return the clients with the most denials, in the current and the previous period, as JSON data."""
        return {
            "now": [_describe(hitter) for hitter in self._failures.peek()],
            "before": [_describe(hitter) for hitter in self._last_failures],
        }

    def _has_room(self, kind: _Kind) -> bool:
        with self._lock:
            wanted = self._lines[kind] = self._lines.get(kind, 0) + 1
        if wanted > self._max_lines:
            self._metrics.count_summarised(1)
            return False
        return True


def _describe(hitter: HeavyHitter) -> dict[str, object]:
    return {"client": hitter.name, "failures": hitter.count, "error_bound": hitter.error_bound}


def _network(address: str) -> str:
    """Return *address*, or the /64 network of an IPv6 address: one client may use all of its addresses."""
    if ":" in address:
        try:
            return str(ip_network((IPv6Address(address), 64), strict=False))
        except ValueError:
            pass
    return printable(address) or ""
