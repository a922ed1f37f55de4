"""For the checker as it waits today: a refresh under way, as something to wait for.

All of it stands in this file, and nothing else imports it but the composition root: it goes when the checker gathers
needs itself.
"""

from __future__ import annotations

from queue import SimpleQueue
from threading import Event, Thread
from typing import Final

from authz.core.needs import Need
from authz.feeds.key_lane import KEY, KeyLane


class Flight:
    """A refresh under way."""

    def __init__(self) -> None:
        self._ended: Final = Event()

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds; tell whether the refresh has ended."""
        return self._ended.wait(timeout)

    def end(self, _answer: object) -> None:
        """Release whoever waits."""
        self._ended.set()


class Flights:
    """Asks a lane for keys on a thread of its own: the one that evaluates requests takes no lock of a feed."""

    def __init__(self, lane: KeyLane) -> None:
        self._lane: Final = lane
        self._wanted: Final = SimpleQueue[tuple[Need, Flight]]()
        Thread(target=self._ask, name="asking", daemon=True).start()

    def find_unknown_key(self, issuer: str) -> Flight | None:
        """Ask for a refresh of the configured *issuer*; None if asking would bring nothing."""
        need = Need(KEY, issuer, None)
        if self._lane.find(need) is not None:
            return None
        flight = Flight()
        self._wanted.put((need, flight))
        return flight

    def max_wait(self, issuer: str) -> float:
        """Return the seconds that a request may wait for a refresh of *issuer*."""
        return self._lane.max_wait(Need(KEY, issuer, None))

    def _ask(self) -> None:
        while True:
            need, flight = self._wanted.get()
            self._lane.ask(need, flight.end)
