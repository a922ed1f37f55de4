"""Remembers from which networks each subject was accepted, in bounded memory.

Rules of this file:
1. Memory is bounded by two generations, as in `accepted_clients`: an active subject stays known.
2. It is used on the deciding thread and others without a lock: the networks of a subject are an immutable value, and of
   two that are recorded at the same moment one may be lost. It is recorded again by the next request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

GENERATION: Final = 14 * 24 * 3600.0  # seconds: an inactive subject is remembered for one to two of them
MAX_NETWORKS: Final = 16  # of one subject: the one that was used longest ago is forgotten

_Networks = dict[str, tuple[str, ...]]


class SeenNetworks:
    """Remembers at most *max_subjects* in each of two generations, of some 2,000 octets each at most.

    *monotonic* is a clock in seconds.
    """

    def __init__(self, *, max_subjects: int, monotonic: Callable[[], float]) -> None:
        self._max_subjects: Final = max_subjects
        self._monotonic: Final = monotonic
        empty: _Networks = {}
        self._generations: tuple[_Networks, _Networks, float] = {}, empty, monotonic()

    def __len__(self) -> int:
        """Return how many entries there are."""
        current, before, _ = self._generations
        return len(current) + len(before)

    def is_new(self, subject: str, network: str) -> bool:
        """Return whether *subject* is known, and not from *network*."""
        networks = self._find(subject)
        return bool(networks) and network not in networks

    def record(self, subject: str, network: str) -> None:
        """Remember that *subject* was accepted from *network*."""
        networks = self._find(subject)
        current, _, began = self._generations
        if subject in current and networks[-1:] == (network,):
            return
        now = self._monotonic()
        if len(current) >= self._max_subjects or now >= began + GENERATION:
            fresh: _Networks = {}
            self._generations = fresh, current, now
            current = fresh
        current[subject] = (*(other for other in networks if other != network), network)[-MAX_NETWORKS:]

    def _find(self, subject: str) -> tuple[str, ...]:
        current, before, _ = self._generations
        return current.get(subject) or before.get(subject, ())
