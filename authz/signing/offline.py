"""Rotates the keys of a state file that no sidecar writes: a job writes it, for example into a Secret.

No process has observed the keys since they were published: ages are measured by the wall clock.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from authz.signing.local import LocalSigner
from authz.signing.rotation import Instant, Phase, Ring, RingKey, RotationPlan, advance, withdraw
from authz.signing.state import SigningState


def rotate_state(state: SigningState, *, algorithm: str, ahead: float, now: float) -> SigningState:
    """Return *state* after the next step of a rotation at *now*, in Unix time.

    A key that was published for *ahead* seconds begins to sign; if none is waiting, a new one is published.
    """
    ring = _by_wall_clock(state.ring)
    if not any(key.phase is Phase.PUBLISHED for key in ring.keys):
        state = state.with_key(LocalSigner.generate(algorithm))
    return _advance(state, ring, ahead, now)


def withdraw_key(state: SigningState, kid: str, *, algorithm: str, ahead: float, now: float) -> SigningState:
    """Return *state* without the key *kid*, and with another one that signs at once. Raises KeyError."""
    if state.ring.find(kid) is None:
        raise KeyError(kid)
    ring = withdraw(_by_wall_clock(state.ring), kid)
    state = state.with_ring(ring)
    if not state.signers:
        state = state.with_key(LocalSigner.generate(algorithm))
    return _advance(state, ring, ahead, now)


def _advance(state: SigningState, ring: Ring, ahead: float, now: float) -> SigningState:
    # A retired key is published until its last token has expired, and for as long as a Secret may take to arrive.
    plan = RotationPlan(ahead=ahead, keep=ahead + _MAX_TOKEN_LIFETIME)
    usable = list(reversed(list(state.signers)))
    return state.with_ring(advance(ring, plan, Instant(now, now), usable))


_MAX_TOKEN_LIFETIME: Final = 3600.0  # seconds: the bound of identity.token.lifetime


def _by_wall_clock(ring: Ring) -> Ring:
    def place(key: RingKey) -> RingKey:
        changed = key.stopped if key.stopped is not None else key.started
        return replace(key, seen=key.published, changed=changed if changed is not None else key.published)

    return replace(ring, keys=tuple(map(place, ring.keys)))
