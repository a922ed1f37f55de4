"""What happened to one issuer's keys, for the log and for metrics: keys that come and go, refreshes that fail."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from authz.core.jwk_validation import LEAKED_PRIVATE_KEY, LEAKED_SECRET
from authz.core.keys import Key, KeySet
from authz.feeds.failure import RefreshError
from authz.telemetry.keys import IssuerKeyMetrics, Refresh, Tally, WhyUnanswered
from authz.telemetry.redaction import escaped

log = logging.getLogger(__name__)

REMEMBERED_SETS: Final = 8
MAX_ROTATIONS: Final = 32  # keys that appeared or vanished, of one issuer

# The core's words for keys that are no secret any more.
_LEAKED: Final = frozenset({LEAKED_PRIVATE_KEY, LEAKED_SECRET})
_MAX_NAMED: Final = 8  # keys in one line of the log


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key that appeared or vanished *at* so many seconds since the epoch."""

    at: float
    event: str
    kid: str | None
    thumbprint: str | None


class History:
    """Observes the feed of the issuer configured as *name*: an `authz.feeds.feed.Observer` of key sets.

    It remembers when each key was first seen, and the sets before this one. *tidy* gets each set that differs from the
    one before, None if there is none to serve, to drop what was kept for keys that are gone.
    """

    def __init__(
        self, name: str, metrics: IssuerKeyMetrics, *, tidy: Callable[[KeySet | None], None] = lambda _: None
    ) -> None:
        self._name: Final = name
        self._metrics: Final = metrics
        self._tidy: Final = tidy
        self._before: KeySet | None = None
        self._first_seen: dict[str, float] = {}
        self._sets: Final[deque[frozenset[tuple[str | None, str]]]] = deque(maxlen=REMEMBERED_SETS)
        self.rotations: Final[deque[Rotation]] = deque(maxlen=MAX_ROTATIONS)
        self.flaps = 0
        self._unknown_kids: Final = Tally()
        self._published: frozenset[str | None] = frozenset()

    @property
    def unknown_kids(self) -> int:
        """How many tokens named a key that was not in the set."""
        return self._unknown_kids.total

    def count_unknown_kid(self) -> None:
        """Count a token whose key is not in the set. Takes no lock: it is called while a request is evaluated."""
        self._unknown_kids.add()
        self._metrics.count_unknown_kid()

    def count_unanswered(self, why: WhyUnanswered) -> None:
        """Count a token that is refused because its key cannot be looked for now. Takes no lock."""
        self._metrics.count_unanswered(why)

    def was_published(self, kid: str | None) -> bool:
        """Tell whether a key with this id was in one of the last sets. Takes no lock."""
        return kid in self._published

    def first_seen(self, key: Key) -> float | None:
        """Return when a key of the current set was first seen, in seconds since the epoch."""
        return self._first_seen.get(key.thumbprint)

    def on_accepted(self, value: KeySet, fetched_at: float) -> None:
        """Take note of the set that is good at this wall-clock time, and tell what changed."""
        self._metrics.show_success(fetched_at)
        changed = value != self._before
        self._note(value, fetched_at)
        if changed:
            self._tidy(value)

    def on_refreshed(self, result: Refresh) -> None:
        """Count a success."""
        self._metrics.count_refresh(result)

    def on_unreadable(self, which: str, error: RefreshError) -> None:
        """Say that kept keys are ignored."""
        log.warning("%s keys of %s ignored: %s", which, self._name, error)

    def on_withdrawn(self, max_stale: float) -> None:
        """Say that there are no keys any more."""
        self._metrics.show_keys(usable=0, rejected=0, leaked=0)
        log.error("keys of %s withdrawn: no refresh succeeded for %g s", self._name, max_stale)
        self._tidy(None)

    def on_failed(self, error: RefreshError, *, pause: float, serving: bool) -> None:
        """Count a failure, and say what it means."""
        self._metrics.count_refresh(error.result)
        log.log(
            # A file of ours that cannot be read: only the operator can fix it.
            logging.ERROR if error.result is Refresh.MISCONFIGURED else logging.WARNING,
            "refresh of %s failed (%s), next in %.1f s, %s: %s",
            self._name,
            error.result.value,
            pause,
            "last good keys serve on" if serving else "there are no keys",
            error,
        )

    def _note(self, keys: KeySet, at: float) -> None:
        before, self._before = self._before, keys
        self._metrics.show_keys(
            usable=len(keys.keys),
            rejected=len(keys.mistakes),
            leaked=count_exposed(keys),
            noted=sum(bool(key.notes) for key in keys.keys),
        )
        if keys == before:
            return
        old, new = _by_name(before) if before else {}, _by_name(keys)
        self._first_seen = {thumbprint: self._first_seen.get(thumbprint, at) for _, thumbprint in new}
        for word, found in (("appeared", new.keys() - old.keys()), ("vanished", old.keys() - new.keys())):
            for name in found:
                key = new.get(name) or old[name]
                kid, thumbprint = escaped(key.kid), show_thumbprint(key)
                log.info("key %s at %s: kid %s (%s, %s)", word, self._name, kid, key.kty, thumbprint)
                self.rotations.append(Rotation(at, word, kid, thumbprint))
        if before is None or before.rejected_keys != keys.rejected_keys:
            self._report_rejected(keys)
        if before is None or _notes(before) != _notes(keys):
            self._report_notes(keys)
        for blocked in keys.unmatched:
            log.info("blocked key %s of %s is no kid or thumbprint that it publishes", escaped(blocked), self._name)
        self._watch_for_flaps(frozenset(new))

    def _report_rejected(self, keys: KeySet) -> None:
        groups: dict[tuple[str, bool], list[str | None]] = {}
        for key in keys.rejected_keys:
            groups.setdefault((key.why, key.other_purpose), []).append(key.kid)
        for (why, other_purpose), kids in groups.items():
            level = logging.INFO if other_purpose else logging.WARNING  # a key for encryption is no mistake
            log.log(level, "key set aside at %s: kid %s: %s", self._name, _enumerate(kids), escaped(why))
        if leaked := count_exposed(keys):
            log.error("%s publishes secrets: %d of its keys; whoever reads them can sign tokens", self._name, leaked)

    def _report_notes(self, keys: KeySet) -> None:
        """Say what the issuer should be told: its keys serve, and other software may refuse them."""
        groups: dict[str, list[str | None]] = {}
        for key in keys.keys:
            for note in key.notes:
                groups.setdefault(note, []).append(key.kid)
        for note, kids in groups.items():
            log.info("key of %s read generously: kid %s: %s", self._name, _enumerate(kids), note)

    def _watch_for_flaps(self, current: frozenset[tuple[str | None, str]]) -> None:
        """A set that was replaced and is back: caches before the issuer disagree, or it was rolled back."""
        if self._sets and self._sets[-1] == current:
            return
        if current in self._sets:
            self.flaps += 1
            self._metrics.count_flap()
            log.warning("keys of %s flap: an earlier set is back; caches before the issuer may disagree", self._name)
        self._sets.append(current)
        self._published = frozenset(kid for known in self._sets for kid, _ in known)


def show_thumbprint(key: Key) -> str | None:
    """Return the thumbprint to show; None for a secret, of which it would be a hash (RFC 7638 section 7)."""
    return None if key.kty == "oct" else key.thumbprint


def _enumerate(kids: list[str | None]) -> str:
    """Write key ids for one line of the log."""
    more = f" and {len(kids) - _MAX_NAMED} more" if len(kids) > _MAX_NAMED else ""
    return ", ".join(str(escaped(kid)) for kid in kids[:_MAX_NAMED]) + more


def _notes(keys: KeySet) -> frozenset[tuple[str | None, str, tuple[str, ...]]]:
    return frozenset((key.kid, key.thumbprint, key.notes) for key in keys.keys if key.notes)


def _by_name(keys: KeySet) -> dict[tuple[str | None, str], Key]:
    return {(key.kid, key.thumbprint): key for key in keys.keys}


def count_exposed(keys: KeySet) -> int:
    """Return how many keys were published with what should be secret."""
    return sum(why in _LEAKED for _, why in keys.rejected)
