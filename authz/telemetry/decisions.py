"""The decision log: one line for each decision that is wanted, and none left out without being counted.

Rules of this file:
1. What a client chose is cut and made printable; a token is never in it, nor a claim but the subject.
2. A flood is summarised: of each kind of denial at most `max_lines` a period have lines of their own, and one line
   tells how many more there were. Allows are logged only where the operator asked for all, and then all of them.
3. Who fails most often is told once a period, from a count of bounded size.
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
from authz.telemetry.judged import Judged, Position
from authz.telemetry.metrics import Metrics
from authz.telemetry.redaction import printable
from authz.telemetry.talkers import Talkers

log = logging.getLogger("authz.decisions")

PERIOD: Final = 60.0  # seconds between two summaries
MAX_LINES: Final = 1_000  # a period, for each kind of denial
MAX_CLIENTS: Final = 64  # counted at a time
MAX_TOLD: Final = 10  # clients in a summary
MANY_FAILURES: Final = 30  # of one client in a period, from which on it is named

_Kind = tuple[str, str]


class DecisionLog:
    """Writes lines about decisions; whoever owns it calls `summarise` every PERIOD, and at the end."""

    def __init__(self, metrics: Metrics, *, monotonic: Callable[[], float], max_lines: int = MAX_LINES) -> None:
        self._metrics: Final = metrics
        self._monotonic: Final = monotonic
        self._max_lines: Final = max_lines
        self._lines: dict[_Kind, int] = {}  # wanted in this period; as many kinds as there are reasons
        self._since = monotonic()
        self._failures: Final = Talkers(max_names=MAX_CLIENTS)
        self._lock: Final = Lock()

    def count_failure(self, judged: Judged) -> None:
        """Count a refusal, real or in shadow, that its client brought about, against its address."""
        if judged.request is not None and WIRE_STATUS[judged.decision.reason].http < 500:
            self._failures.count(_network(judged.request.source_address))

    def write(self, judged: Judged, *, log_client: bool, position: Position | None = None) -> None:
        """Write one line about a decision, or count it where there were too many like it."""
        decision, request, trail = judged.decision, judged.request, judged.decision.trail
        kind = (outcome(decision), decision.reason.value)
        if (isinstance(decision, Deny) or decision.would_deny) and not self._has_room(kind):
            return
        fields: dict[str, object] = {
            "decision": kind[0],
            "reason": kind[1],
            "detail": decision.detail,
            "decision_id": judged.decision_id,
            "rule": trail.rule,
            "issuer": trail.issuer,
            "alg": printable(trail.alg),
            "kid": printable(trail.kid),
            "duration_us": round(judged.seconds * 1e6),
        }
        if position is not None:
            fields["trace_id"] = position.trace_id
            if position.span_id is not None:
                fields["span_id"] = position.span_id
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
        """Tell what had no line of its own since the last time, and who failed most often, if clients may be named."""
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
        talkers = self._failures.take()
        self._metrics.show_client_failures(max((talker.count - talker.excess for talker in talkers), default=0))
        if name_clients:
            for talker in talkers[:MAX_TOLD]:
                surely = talker.count - talker.excess
                if surely >= MANY_FAILURES:
                    fields = {"client": talker.name, "failures": surely, "seconds": seconds}
                    log.warning("many failures of one client", extra=fields)

    def _has_room(self, kind: _Kind) -> bool:
        with self._lock:
            wanted = self._lines[kind] = self._lines.get(kind, 0) + 1
        if wanted > self._max_lines:
            self._metrics.count_summarised(1)
            return False
        return True


def _network(address: str) -> str:
    """Return whom *address* belongs to: itself, or of IPv6 the /64, all of which one client may use."""
    if ":" in address:
        try:
            return str(ip_network((IPv6Address(address), 64), strict=False))
        except ValueError:
            pass
    return printable(address) or ""
