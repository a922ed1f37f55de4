"""Logs and metrics about the keys of one issuer: new and removed keys, failed refreshes."""

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

MAX_REMEMBERED_SETS: Final = 8
MAX_ROTATIONS: Final = 32  # keys that were added or removed, of one issuer

# The core's reasons for keys whose secret part was published.
_LEAKED: Final = frozenset({LEAKED_PRIVATE_KEY, LEAKED_SECRET})
_MAX_LOGGED_KIDS: Final = 8  # in one line of the log


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key that appeared or vanished *at* a Unix time."""

    at: float
    event: str
    kid: str | None
    thumbprint: str | None


class KeyHistory:
    """Observes the feed of the issuer configured as *name*; implements `authz.feeds.ports.Observer` for key sets.

    It remembers when each key was first seen, and the last key sets. *on_change* is called with each key set that
    differs from the previous one, and with None if no keys may be used any more.
    """

    def __init__(
        self, name: str, metrics: IssuerKeyMetrics, *, on_change: Callable[[KeySet | None], None] = lambda _: None
    ) -> None:
        self._name: Final = name
        self._metrics: Final = metrics
        self._on_change: Final = on_change
        self._before: KeySet | None = None
        self._first_seen: dict[str, float] = {}
        self._sets: Final[deque[frozenset[tuple[str | None, str]]]] = deque(maxlen=MAX_REMEMBERED_SETS)
        self.rotations: Final[deque[Rotation]] = deque(maxlen=MAX_ROTATIONS)
        self.flaps = 0
        self._unknown_kids: Final = Tally()
        self._published: frozenset[str | None] = frozenset()

    @property
    def unknown_kids(self) -> int:
        """The number of tokens whose `kid` was not in the key set."""
        return self._unknown_kids.total

    def count_unknown_kid(self) -> None:
        """Count a token whose key is not in the set. Takes no lock, because it is called on the deciding thread."""
        self._unknown_kids.add()
        self._metrics.count_unknown_kid()

    def count_unanswered(self, why: WhyUnanswered) -> None:
        """Count a token that is denied because its key cannot be searched for now. Takes no lock."""
        self._metrics.count_unanswered(why)

    def was_published(self, kid: str | None) -> bool:
        """Return whether a key with this id was in one of the last key sets. Takes no lock."""
        return kid in self._published

    def first_seen(self, key: Key) -> float | None:
        """Return when a key of the current set was first seen, in Unix time."""
        return self._first_seen.get(key.thumbprint)

    def on_accepted(self, value: KeySet, fetched_at: float) -> None:
        """Record a good key set with its wall-clock time, and log the differences."""
        self._metrics.show_success(fetched_at)
        changed = value != self._before
        self._note(value, fetched_at)
        if changed:
            self._on_change(value)

    def on_refreshed(self, result: Refresh) -> None:
        """Count a success."""
        self._metrics.count_refresh(result)

    def on_unreadable(self, which: str, error: RefreshError) -> None:
        """Log that stored keys are ignored."""
        log.warning("%s keys of %s ignored: %s", which, self._name, error)

    def on_withdrawn(self, max_stale: float) -> None:
        """Log and show that there are no keys any more."""
        self._metrics.show_keys(usable=0, rejected=0, leaked=0)
        log.error("keys of %s withdrawn: no refresh succeeded for %g s", self._name, max_stale)
        self._on_change(None)

    def on_failed(self, error: RefreshError, *, pause: float, serving: bool) -> None:
        """Count and log a failure."""
        self._metrics.count_refresh(error.result)
        log.log(
            # MISCONFIGURED: only the operator can fix it.
            logging.ERROR if error.result is Refresh.MISCONFIGURED else logging.WARNING,
            "refresh of %s failed (%s), next in %.1f s, %s: %s",
            self._name,
            error.result.value,
            pause,
            "the last good keys stay in use" if serving else "there are no keys",
            error,
        )

    def _note(self, keys: KeySet, at: float) -> None:
        before, self._before = self._before, keys
        self._metrics.show_keys(
            usable=len(keys.keys),
            rejected=len(keys.rejected_signing_keys),
            leaked=count_leaked(keys),
            noted=sum(bool(key.notes) for key in keys.keys),
        )
        if keys == before:
            return
        old, new = _by_name(before) if before else {}, _by_name(keys)
        self._first_seen = {thumbprint: self._first_seen.get(thumbprint, at) for _, thumbprint in new}
        for event, kids in (("added", new.keys() - old.keys()), ("removed", old.keys() - new.keys())):
            for name in kids:
                key = new.get(name) or old[name]
                kid, thumbprint = escaped(key.kid), show_thumbprint(key)
                log.info("key %s at %s: kid %s (%s, %s)", event, self._name, kid, key.kty, thumbprint)
                self.rotations.append(Rotation(at, event, kid, thumbprint))
        if before is None or before.rejected_keys != keys.rejected_keys:
            self._report_rejected(keys)
        if before is None or _notes(before) != _notes(keys):
            self._report_notes(keys)
        for blocked in keys.unmatched_blocks:
            log.info("blocked key %s of %s matches no kid or thumbprint in its key set", escaped(blocked), self._name)
        self._detect_flaps(frozenset(new))

    def _report_rejected(self, keys: KeySet) -> None:
        groups: dict[tuple[str, bool], list[str | None]] = {}
        for key in keys.rejected_keys:
            groups.setdefault((key.why, key.other_purpose), []).append(key.kid)
        for (why, other_purpose), kids in groups.items():
            level = logging.INFO if other_purpose else logging.WARNING  # encryption keys are expected
            log.log(level, "key rejected at %s: kid %s: %s", self._name, _enumerate(kids), escaped(why))
        if leaked := count_leaked(keys):
            log.error("%s publishes secrets: %d of its keys; anyone who reads them can sign tokens", self._name, leaked)

    def _report_notes(self, keys: KeySet) -> None:
        """Log the deviations of accepted keys from the standard: other software may reject them."""
        groups: dict[str, list[str | None]] = {}
        for key in keys.keys:
            for note in key.notes:
                groups.setdefault(note, []).append(key.kid)
        for note, kids in groups.items():
            log.info("key of %s accepted despite its form: kid %s: %s", self._name, _enumerate(kids), note)

    def _detect_flaps(self, current: frozenset[tuple[str | None, str]]) -> None:
        """Detect the return of a replaced key set: caches in front of the issuer disagree, or it was rolled back."""
        if self._sets and self._sets[-1] == current:
            return
        if current in self._sets:
            self.flaps += 1
            self._metrics.count_flap()
            log.warning(
                "keys of %s flap: an earlier key set is back; caches in front of the issuer may disagree", self._name
            )
        self._sets.append(current)
        self._published = frozenset(kid for keys in self._sets for kid, _ in keys)


def show_thumbprint(key: Key) -> str | None:
    """Return the thumbprint to show; None for a symmetric key, whose thumbprint is a hash of the secret (RFC 7638)."""
    return None if key.kty == "oct" else key.thumbprint


def _enumerate(kids: list[str | None]) -> str:
    """Return the key ids as text for one line of the log."""
    more = f" and {len(kids) - _MAX_LOGGED_KIDS} more" if len(kids) > _MAX_LOGGED_KIDS else ""
    return ", ".join(str(escaped(kid)) for kid in kids[:_MAX_LOGGED_KIDS]) + more


def _notes(keys: KeySet) -> frozenset[tuple[str | None, str, tuple[str, ...]]]:
    return frozenset((key.kid, key.thumbprint, key.notes) for key in keys.keys if key.notes)


def _by_name(keys: KeySet) -> dict[tuple[str | None, str], Key]:
    return {(key.kid, key.thumbprint): key for key in keys.keys}


def count_leaked(keys: KeySet) -> int:
    """Return how many keys were published with their private part or secret."""
    return sum(why in _LEAKED for _, why in keys.rejected)
