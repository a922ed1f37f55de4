"""What this process remembers of its clients: failures by network and subject, accepted tokens, and known networks.

It is written after each decision, and later decisions read it as facts, without waiting. Nothing here takes a lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from authz.core.decision import Decision
from authz.core.needs import Need
from authz.core.reasons import Reason
from authz.core.risk import CLIENT, SUBJECT_FAILURES, ClientHistory, name_subject
from authz.core.throttle import ACCEPTED, BAD_TOKENS, THROTTLE, ClientRules, Throttled
from authz.facts.accepted_clients import AcceptedClients
from authz.facts.failure_counts import FailureCount, FailureCounts
from authz.facts.seen_networks import SeenNetworks

_NO_RULES: Final = ClientRules()


class ClientMemory:
    """Remembers the clients of this process, within named bounds. *monotonic* is a clock in seconds."""

    def __init__(
        self, *, max_networks: int, max_subjects: int, max_accepted: int, monotonic: Callable[[], float]
    ) -> None:
        self._networks: Final = FailureCounts(max_names=max_networks, monotonic=monotonic)
        self._subjects: Final = FailureCounts(max_names=max_subjects, monotonic=monotonic)
        self._seen: Final = SeenNetworks(max_subjects=max_subjects, monotonic=monotonic)
        self._accepted: Final = AcceptedClients(max_entries=max_accepted, monotonic=monotonic)
        self._rules = _NO_RULES

    def reconfigure(self, rules: ClientRules | None) -> None:
        """Use the *rules* of a new configuration; what was counted stays."""
        self._rules = rules or _NO_RULES

    def record_decision(self, decision: Decision) -> None:
        """Record the outcome of *decision* for its client: a failure, or an accepted token."""
        trail, rules = decision.trail, self._rules
        subject = name_subject(trail.issuer or "", trail.subject or trail.client)
        if subject and decision.reason in SUBJECT_FAILURES and not trail.reads_risk:
            self._subjects.count(subject)
        if trail.network is None:
            return
        if trail.valid_token is None:
            if decision.reason in BAD_TOKENS:
                self._networks.count(trail.network, rules.throttle)
            return
        if rules.throttle is not None:
            self._accepted.record(trail.valid_token, trail.network)
        if subject and trail.reads_risk and decision.reason is Reason.AUTHENTICATED:
            self._seen.record(subject, trail.network)

    def lanes(self) -> dict[str, ImmediateLane]:
        """Return the lane for each kind of need."""
        return {
            THROTTLE: ImmediateLane(self._find_throttled),
            ACCEPTED: ImmediateLane(self._find_accepted),
            CLIENT: ImmediateLane(self._find_history),
        }

    def failing_networks(self) -> list[FailureCount]:
        """Return the networks with failures in the last hour, the worst first."""
        return sorted(self._networks.all(self._rules.throttle), key=_worst_first)

    def failing_subjects(self) -> list[FailureCount]:
        """Return the subjects with failures in the last hour, the worst first."""
        return sorted(self._subjects.all(), key=_worst_first)

    def count_throttled(self) -> int:
        """Return how many networks are throttled now."""
        return sum(count.seconds > 0.0 for count in self._networks.all(self._rules.throttle))

    def _find_throttled(self, need: Need) -> Throttled | None:
        throttle = self._rules.throttle
        seconds = 0.0 if throttle is None else self._networks.throttled_for(need.identifier or "", throttle)
        return Throttled(seconds) if seconds > 0.0 else None

    def _find_accepted(self, need: Need) -> bool | None:
        return self._accepted.knows(need.identifier or "") or None

    def _find_history(self, need: Need) -> ClientHistory:
        network, _, subject = (need.identifier or "").partition("\n")
        of_network, of_subject = self._networks.get(network), self._subjects.get(subject)
        return ClientHistory(
            failures_1m=of_network.minute if of_network is not None else 0,
            failures_1h=of_network.hour if of_network is not None else 0,
            subject_failures_1m=of_subject.minute if of_subject is not None else 0,
            subject_failures_1h=of_subject.hour if of_subject is not None else 0,
            new_network=bool(network and subject) and self._seen.is_new(subject, network),
        )


class ImmediateLane:
    """A lane that answers from memory: no check waits for it."""

    max_waiting: Final = 0

    def __init__(self, look_up: Callable[[Need], object | None]) -> None:
        self._look_up: Final = look_up

    def recall(self, need: Need) -> object | None:
        """Return the fact if there is one. Takes no lock."""
        return self._look_up(need)

    def find(self, need: Need) -> object | None:
        """Return the fact if there is one. Takes no lock."""
        return self._look_up(need)

    def ask(self, _need: Need, done: Callable[[object | None], None]) -> None:
        """Call *done* with None: a fact that is not in memory is not available elsewhere."""
        done(None)

    def max_wait(self, _need: Need) -> float:
        """Return 0: no check waits."""
        return 0.0


def _worst_first(count: FailureCount) -> tuple[float, int, int, str]:
    return -count.seconds, -count.minute, -count.hour, count.name
