"""What happened to one issuer's keys: which appeared, vanished or were set aside, and whether sets come and go."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from authz.core.keys import Key, KeySet
from authz.core.vetting import EXPOSED
from authz.telemetry.keys import IssuerKeyMetrics
from authz.telemetry.redaction import escaped

log = logging.getLogger(__name__)

REMEMBERED_SETS: Final = 8

# The core's words for keys that are no secret any more.
_EXPOSED: Final = frozenset({EXPOSED, "symmetric key in a published set"})


class History:
    """Remembers when each key of the issuer configured as *name* was first seen, and the sets before this one."""

    def __init__(self, name: str, metrics: IssuerKeyMetrics) -> None:
        self._name: Final = name
        self._metrics: Final = metrics
        self._before: KeySet | None = None
        self._first_seen: dict[str, float] = {}
        self._sets: Final[deque[frozenset[tuple[str | None, str]]]] = deque(maxlen=REMEMBERED_SETS)
        self.flaps = 0

    def first_seen(self, key: Key) -> float | None:
        """Return when a key of the current set was first seen, in seconds since the epoch."""
        return self._first_seen.get(key.thumbprint)

    def note(self, keys: KeySet, at: float) -> None:
        """Take note of the set that is good *at* this wall-clock time, and tell what changed."""
        before, self._before = self._before, keys
        self._metrics.show_keys(usable=len(keys.keys), rejected=len(keys.set_aside), exposed=count_exposed(keys))
        if keys == before:
            return
        old, new = _by_name(before) if before else {}, _by_name(keys)
        self._first_seen = {thumbprint: self._first_seen.get(thumbprint, at) for _, thumbprint in new}
        for word, found in (("appeared", new.keys() - old.keys()), ("vanished", old.keys() - new.keys())):
            for name in found:
                key = new.get(name) or old[name]
                kid, thumbprint = escaped(key.kid), show_thumbprint(key)
                log.info("key %s at %s: kid %s (%s, %s)", word, self._name, kid, key.kty, thumbprint)
        if before is None or before.set_aside != keys.set_aside:
            self._tell_set_aside(keys)
        for blocked in keys.unmatched:
            log.info("blocked key %s of %s is no kid or thumbprint that it publishes", escaped(blocked), self._name)
        self._watch_for_flaps(frozenset(new))

    def _tell_set_aside(self, keys: KeySet) -> None:
        for kid, why in keys.rejected:
            log.warning("key set aside at %s: kid %s: %s", self._name, escaped(kid), escaped(why))
        if exposed := count_exposed(keys):
            log.error("%s publishes secrets: %d of its keys; whoever reads them can sign tokens", self._name, exposed)

    def _watch_for_flaps(self, current: frozenset[tuple[str | None, str]]) -> None:
        """A set that was replaced and is back: caches before the issuer disagree, or it was rolled back."""
        if self._sets and self._sets[-1] == current:
            return
        if current in self._sets:
            self.flaps += 1
            self._metrics.count_flap()
            log.warning("keys of %s flap: an earlier set is back; caches before the issuer may disagree", self._name)
        self._sets.append(current)


def show_thumbprint(key: Key) -> str | None:
    """Return the thumbprint to show; None for a secret, of which it would be a hash (RFC 7638 section 7)."""
    return None if key.kty == "oct" else key.thumbprint


def _by_name(keys: KeySet) -> dict[tuple[str | None, str], Key]:
    return {(key.kid, key.thumbprint): key for key in keys.keys}


def count_exposed(keys: KeySet) -> int:
    """Return how many keys were published with what should be secret."""
    return sum(why in _EXPOSED for _, why in keys.rejected)
