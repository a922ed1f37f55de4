"""Whether the process says that it serves: starting, ready, draining, in this order and never back."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from typing import Final

_POLL: Final = 0.05  # seconds between two looks at what readiness waits for


class Readiness:
    """Tells health clients and probes; an issuer's trouble never makes a process unready that was ready once."""

    def __init__(self, *, missing: Callable[[], list[str]], show: Callable[[bool], None]) -> None:
        """*missing* names what the first readiness waits for; *show* tells health clients whether we serve."""
        self._missing: Final = missing
        self._show: Final = show
        self._changing: Final = Lock()  # what is shown last is what holds
        self._ready = False
        self.draining: Final = Event()

    def waiting_for(self) -> list[str]:
        """Name what readiness waits for; nothing once ready."""
        if self.draining.is_set():
            return ["the end of the drain"]
        return [] if self._ready else self._missing()

    def await_ready(self) -> bool:
        """Wait until nothing is missing, or until the drain begins; return whether we are ready now."""
        while self._missing():
            if self.draining.wait(_POLL):
                return False
        with self._changing:
            if self.draining.is_set():
                return False
            self._ready = True
            self._show(True)  # noqa: FBT003 - a callback
            return True

    def drain(self) -> bool:
        """Say that we do not serve any more, and never again that we do; return whether we ever said so."""
        with self._changing:
            self.draining.set()
            self._show(False)  # noqa: FBT003 - a callback
        return self._ready
