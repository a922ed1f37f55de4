"""The data of this process for the console.

Rule of this file: what only a page of the console needs is imported when that page is first asked for. It is 2.5 MB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authz.admin.console.attempt import QuestionError
from authz.config.model import Config
from authz.core.snapshot import Snapshot
from authz.facts.clients import ClientMemory
from authz.facts.failure_counts import FailureCount
from authz.feeds.key_report import describe_keys
from authz.feeds.key_usage import KeyUsage
from authz.feeds.registry import Registry
from authz.runtime.active_config import ActiveConfig
from authz.telemetry.audit import AuditEntry
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.last_hour import LastHour
from authz.telemetry.metrics import Metrics
from authz.telemetry.recent import DecisionFilter, RecentDecisions
from authz.telemetry.redaction import printable

MAX_RANKED: Final = 64  # subjects, or rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the process that are read; *active* is called for each request."""

    active: Callable[[], ActiveConfig]
    snapshot: Callable[[], Snapshot]
    feeds: Registry
    revocations: Callable[[], Mapping[str, int]]
    sharing: Callable[[], Mapping[str, object] | None]
    usage: KeyUsage
    metrics: Metrics
    decision_log: DecisionLog
    clients: ClientMemory
    recent: RecentDecisions
    last_hour: LastHour
    waiting_for: Callable[[], list[str]]
    now: Callable[[], float]


class Insight:
    """Answers the console from the parts of this process: an `authz.admin.console.routes.ConsoleSource`."""

    def __init__(self, parts: Parts) -> None:
        self._parts: Final = parts
        self._envoy: tuple[Config, str] | None = None

    def history(self) -> dict[str, object]:
        """Return the last hour."""
        return {**self._parts.last_hour.describe(), "waiting_for": self._parts.waiting_for()}

    def keys(self) -> dict[str, object]:
        """Return the keys of all issuers."""
        return describe_keys(self._parts.snapshot(), self._parts.feeds.feeds(), self._parts.usage)

    def decisions(self, wanted: DecisionFilter) -> dict[str, object]:
        """Return the *wanted* decisions."""
        return self._parts.recent.describe(wanted)

    def configuration(self, query: Mapping[str, str]) -> dict[str, object]:
        """Return the configuration in use."""
        from authz.runtime.config_report import describe_config, describe_envoy  # noqa: PLC0415 - see the rule above

        active = self._parts.active()
        config = active.config
        if self._envoy is None or self._envoy[0] is not config:
            self._envoy = config, describe_envoy(config)
        return {**describe_config(active, query), "envoy": self._envoy[1]}

    def pressure(self) -> dict[str, object]:
        """Return the most frequent failures, the load and the losses."""
        parts, active = self._parts, self._parts.active()
        refused = [entry for entry in parts.recent.find(DecisionFilter()) if entry.decision != "allow"]
        no_clients: dict[str, list[object]] = {"now": [], "before": []}
        feeds = parts.feeds.feeds()
        return {
            "in_flight": parts.metrics.totals().in_flight,
            "max_concurrent": active.started_with.server.max_concurrent,
            "lost": parts.metrics.losses(),
            "clients": parts.decision_log.describe_failures() if active.config.telemetry.log_client else no_clients,
            **self._describe_failing(with_names=active.config.telemetry.log_client),
            "subjects": _rank(refused, lambda entry: printable(entry.subject)),
            "rules": _rank(refused, lambda entry: entry.rule),
            "revocations": dict(parts.revocations()),
            "shared_revocations": parts.sharing(),
            "unknown_kids": {
                name: feed.history.unknown_kids for name, feed in feeds.items() if feed.history.unknown_kids
            },
        }

    def _describe_failing(self, *, with_names: bool) -> dict[str, object]:
        """Return the networks and subjects whose failures are counted; none without *with_names*."""
        networks = self._parts.clients.failing_networks() if with_names else []
        subjects = self._parts.clients.failing_subjects() if with_names else []
        return {
            "networks": [
                {**_describe_count(count), "throttled": int(count.seconds > 0.0)} for count in networks[:MAX_RANKED]
            ],
            "failing_subjects": [_describe_count(count) for count in subjects[:MAX_RANKED]],
        }

    def explain(self, question: Mapping[str, Any]) -> dict[str, object]:
        """Return each step of a decision with the current keys and rules. Raises QuestionError."""
        from authz.tooling.explain.explanation import InputError  # noqa: PLC0415 - as above
        from authz.tooling.explain.live import explain_live, read_question  # noqa: PLC0415 - as above

        try:
            parsed = read_question(question, now=self._parts.now())
        except InputError as error:
            raise QuestionError(str(error)) from None
        explained = explain_live(parsed, self._parts.snapshot(), self._parts.active().config)
        return {"explanations": [explained.document()]}

    def refresh(self, issuer: str | None) -> Mapping[str, object] | None:
        """Start fetching the keys of an issuer, or of all; None if no feed has that name."""
        issuers = self._parts.feeds.refresh(issuer)
        return None if issuers is None else {"issuers": issuers}


def _describe_count(count: FailureCount) -> dict[str, object]:
    return {"name": printable(count.name), "failures": count.hour, "last_minute": count.minute}


def _rank(entries: Iterable[AuditEntry], name: Callable[[AuditEntry], str | None]) -> list[dict[str, object]]:
    counted = Counter(value for entry in entries if (value := name(entry)))
    return [{"name": value, "failures": count} for value, count in counted.most_common(MAX_RANKED)]
