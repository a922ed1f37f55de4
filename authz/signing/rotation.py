"""Which key is published, which one signs, and when: pure functions over one frozen state.

No clock, no I/O, no randomness: the caller passes the times. The wall clock is only used for how long a key has been
signing; how long readers have been able to see a key is measured on a monotonic clock, which cannot be set.

Rules of this file:
1. A key is published for `ahead` before it signs: longer than any reader caches the key set. Each process measures that
   from when it first published the key itself; after a restart it measures again.
2. One key signs. The others are not used yet, or are retired: these stay published for `keep`, until the last token
   that they signed has expired, including tokens of replicas that learned of the change later.
3. If no key may sign by rule 1, the one that was published first does: otherwise there would be no token at all. That
   is the case for the first key, and after the withdrawal of a key.
4. A key that was withdrawn is removed at once, and never comes back.
5. A jump of the wall clock may replace a key earlier, but never before rule 1 allows it, or later, at the latest when
   this process has seen the key sign for `every`.
6. The states of processes are merged: a key passes its phases in one direction, and is removed for all when it was
   withdrawn or its last token has expired. So a store that lost its last changes, or all, gets them from any process.
7. A process that learns of a key only when others already sign with it, because it could not read the state, continues
   with the previous key until its own readers know the new one, if that key is still published elsewhere for as long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

NEVER: Final = float("inf")
MAX_WITHDRAWN: Final = 256  # ids, the last of them: each is from an operator
MAX_ENDED: Final = 64  # ids, the last of them: no process knows an older key


class Phase(StrEnum):
    """The phase of a published key."""

    PUBLISHED = "published"  # it does not sign yet
    SIGNING = "signing"
    RETIRED = "retired"  # it signs no more, and its last tokens are still valid


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPlan:
    """Durations in seconds: a key is published *ahead* of signing and *keep* after it, and replaced *every* period.

    *every* is None if the operator replaces keys. Readers cache the key set for at most *cached*, less than *ahead*.
    """

    ahead: float
    keep: float
    every: float | None = None
    cached: float = 0.0


@dataclass(frozen=True, slots=True)
class RingKey:
    """One key. *published*, *started* and *stopped* are in Unix time, as other processes see them.

    *seen* and *changed* are on the monotonic clock of this process: when it first published the key, and when it first
    saw its present phase. *restored* counts how often the state had lost the key: some may not have published it then.
    """

    kid: str
    published: float
    started: float | None = None
    stopped: float | None = None
    restored: int = 0
    seen: float = field(default=0.0, compare=False)
    changed: float = field(default=0.0, compare=False)

    @property
    def phase(self) -> Phase:
        """The phase of the key."""
        if self.stopped is not None:
            return Phase.RETIRED
        return Phase.PUBLISHED if self.started is None else Phase.SIGNING


@dataclass(frozen=True, slots=True)
class Ring:
    """All published keys, the oldest first, and the ids of those that were *withdrawn*, and that *ended* by rule 2."""

    keys: tuple[RingKey, ...] = ()
    withdrawn: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()

    @property
    def signing(self) -> RingKey | None:
        """The key that signs."""
        return next((key for key in self.keys if key.phase is Phase.SIGNING), None)

    def find(self, kid: str) -> RingKey | None:
        """Return the key with this id."""
        return next((key for key in self.keys if key.kid == kid), None)


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment: in Unix time, and on the monotonic clock of this process."""

    wall: float
    monotonic: float


def observe(read: Ring, known: Ring, now: Instant) -> Ring:
    """Return *read*, which another process may have changed, with the monotonic times of this process from *known*."""
    before = {key.kid: key for key in known.keys}

    def remember(key: RingKey) -> RingKey:
        own = before.get(key.kid)
        if own is None:
            return replace(key, seen=now.monotonic, changed=now.monotonic)
        again = key.restored != own.restored and key.phase is Phase.PUBLISHED  # rule 1: others may not know it
        seen = now.monotonic if again else own.seen
        return replace(key, seen=seen, changed=own.changed if own.phase is key.phase else now.monotonic)

    return replace(read, keys=tuple(map(remember, read.keys)))


def merge(read: Ring, known: Ring) -> Ring:
    """Merge the state as it was *read* with what this process has *known* before (rule 6)."""
    withdrawn = _merge_ids(read.withdrawn, known.withdrawn, MAX_WITHDRAWN)
    ended = _merge_ids(read.ended, known.ended, MAX_ENDED)
    gone = {*withdrawn, *ended}
    before = {key.kid: key for key in known.keys}
    present = {key.kid for key in read.keys}
    keys = [_latest_phase(key, before.get(key.kid)) for key in read.keys]
    keys += [replace(key, restored=key.restored + 1) for key in known.keys if key.kid not in present]
    keys = [key for key in keys if key.kid not in gone]
    # Two keys sign if a state was created while another process still had one: the older one continues.
    signing = [key for key in keys if key.phase is Phase.SIGNING]
    first = min(signing, key=lambda key: (key.started, key.kid), default=None)
    others = {key.kid: replace(key, started=None) for key in signing if key is not first}
    return _replace_keys(Ring(tuple(keys), withdrawn, ended), others)


def find_local_signing_key(
    ring: Ring, plan: RotationPlan, before: str | None, now: Instant, read_at: float
) -> RingKey | None:
    """Return the key that this process signs with; *before* is the id of its previous one (rule 7).

    The state was read now, and before that at the monotonic time *read_at*.
    """
    signing, last = ring.signing, None if before is None else ring.find(before)
    if signing is None or last is None or now.monotonic - signing.seen >= plan.cached:
        return signing
    # The new key was published after *read_at*, and signed `ahead` later: so long ago is that at most.
    signed_for = now.monotonic - read_at - plan.ahead
    learned_now = signing.seen > read_at
    return signing if learned_now and signed_for > plan.ahead - plan.cached else last


def advance(ring: Ring, plan: RotationPlan, now: Instant, usable: Sequence[str]) -> Ring:
    """Return the ring after all steps that are due. *usable* are the ids of keys that can sign, preferred first."""
    usable = [kid for kid in usable if kid not in ring.withdrawn]
    ring = _publish(ring, now, usable)
    ring = _choose_signing_key(ring, plan, now, usable)
    if plan.every is not None:
        ring = _retire_older(ring, now, usable)
    return _forget(ring, plan, now, usable)


def needs_key(ring: Ring, plan: RotationPlan, now: Instant) -> bool:
    """Return whether a new key is to be generated: none is there, or the one that signs is to be replaced."""
    if plan.every is None or any(key.phase is Phase.PUBLISHED for key in ring.keys):
        return False
    return now.wall >= replaced_at(ring, plan, now) - plan.ahead


def replaced_at(ring: Ring, plan: RotationPlan, now: Instant) -> float:
    """Return when to replace the key that signs, in Unix time: now if there is none, NEVER if the operator does it.

    The age is the greater one of both clocks: a wall clock that was set back does not make a key younger.
    """
    signing = ring.signing
    if signing is None:
        return now.wall
    if plan.every is None or signing.started is None:
        return NEVER
    age = max(now.wall - signing.started, now.monotonic - signing.changed)
    return now.wall + plan.every - age


def due(ring: Ring, plan: RotationPlan, now: Instant) -> float:
    """Return the seconds until the next step is due, without changes of files and by other processes."""
    pending = any(key.phase is Phase.PUBLISHED for key in ring.keys)
    waits = [] if pending else [replaced_at(ring, plan, now) - plan.ahead - now.wall]
    for key in ring.keys:
        if key.phase is Phase.PUBLISHED:
            waits.append(key.seen + plan.ahead - now.monotonic)
        elif key.phase is Phase.RETIRED:
            waits.append(key.changed + plan.keep - now.monotonic)
    return max(0.0, min(waits, default=NEVER))


def withdraw(ring: Ring, kid: str) -> Ring:
    """Return the ring without the key *kid*, which never comes back; `advance` then selects another one to sign."""
    keys = tuple(key for key in ring.keys if key.kid != kid)
    return replace(ring, keys=keys, withdrawn=_merge_ids(ring.withdrawn, (kid,), MAX_WITHDRAWN))


def counts(ring: Ring) -> Mapping[Phase, int]:
    """Return how many keys are in each phase."""
    return {phase: sum(key.phase is phase for key in ring.keys) for phase in Phase}


def _publish(ring: Ring, now: Instant, usable: Collection[str]) -> Ring:
    known = {key.kid for key in ring.keys}
    new = tuple(RingKey(kid, now.wall, seen=now.monotonic, changed=now.monotonic) for kid in usable if kid not in known)
    return replace(ring, keys=ring.keys + new)


def _choose_signing_key(ring: Ring, plan: RotationPlan, now: Instant, usable: Sequence[str]) -> Ring:
    """Let the first key sign that may (rule 1); if there is none, the one that was published first (rule 3)."""
    signing = ring.signing
    present = {key.kid: key for key in ring.keys}
    candidates = [present[kid] for kid in usable]
    ready = [key for key in candidates if key is signing or now.monotonic - key.seen >= plan.ahead]
    if ready:
        chosen = ready[0]
    elif candidates:  # of those that were seen at one time, the last: the operator adds new ones in front
        chosen = min(reversed(candidates), key=lambda key: key.seen)
    else:
        return ring if signing is None else _replace_keys(ring, {signing.kid: _stop(signing, now)})
    if chosen is signing:
        return ring
    changes = {chosen.kid: replace(chosen, started=now.wall, stopped=None, changed=now.monotonic)}
    if signing is not None:
        changes[signing.kid] = _stop(signing, now)
    return _replace_keys(ring, changes)


def _retire_older(ring: Ring, now: Instant, usable: Sequence[str]) -> Ring:
    """Retire generated keys that are older than the one that signs: two processes may have generated one each.

    Another process may have signed with them, and while one waits, no key is generated.
    """
    signing = ring.signing
    if signing is None or signing.kid not in usable:
        return ring
    older = set(usable[usable.index(signing.kid) + 1 :])
    return _replace_keys(
        ring, {key.kid: _stop(key, now) for key in ring.keys if key.kid in older and key.stopped is None}
    )


def _stop(key: RingKey, now: Instant) -> RingKey:
    return replace(key, stopped=now.wall, changed=now.monotonic)


def _replace_keys(ring: Ring, changes: Mapping[str, RingKey]) -> Ring:
    return replace(ring, keys=tuple(changes.get(key.kid, key) for key in ring.keys))


def _forget(ring: Ring, plan: RotationPlan, now: Instant, usable: Collection[str]) -> Ring:
    """Remove keys whose last token has expired, and keys that never signed and cannot sign any more."""

    def stays(key: RingKey) -> bool:
        if key.kid in usable or key.phase is Phase.SIGNING:
            return True
        return key.phase is Phase.RETIRED and now.monotonic - key.changed < plan.keep

    ended = tuple(key.kid for key in ring.keys if not stays(key))
    return replace(ring, keys=tuple(filter(stays, ring.keys)), ended=_merge_ids(ring.ended, ended, MAX_ENDED))


def _merge_ids(one: tuple[str, ...], other: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Return all ids, those of *one* first; if there are more than *most*, only the last ones."""
    return tuple(dict.fromkeys((*one, *other)))[-most:]


def _latest_phase(key: RingKey, own: RingKey | None) -> RingKey:
    """Return *key* in the later of both phases."""
    if own is None:
        return key
    started, stopped = _earlier(key.started, own.started), _earlier(key.stopped, own.stopped)
    return replace(key, started=started, stopped=stopped, restored=max(key.restored, own.restored))


def _earlier(one: float | None, other: float | None) -> float | None:
    known = [time for time in (one, other) if time is not None]
    return min(known, default=None)
