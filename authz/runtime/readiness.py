"""Readiness of the process: starting, ready, draining, in this order and never back."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from typing import Final

_POLL: Final = 0.05  # seconds between two checks of what readiness waits for


class Readiness:
    """Informs health clients and probes; a process that was ready never becomes unready because of an issuer."""

    def __init__(self, *, missing: Callable[[], list[str]], show: Callable[[bool], None]) -> None:
        """*missing* lists what the first readiness waits for; *show* informs health clients whether we serve."""
        self._missing: Final = missing
        self._show: Final = show
        self._changing: Final = Lock()  # the last value shown must be the current one
        self._ready = False
        self.draining: Final = Event()

    def waiting_for(self) -> list[str]:
        """List what readiness waits for; empty once ready."""
        if self.draining.is_set():
            return ["the end of the drain"]
        return [] if self._ready else self._missing()

    def await_ready(self) -> bool:
        """Wait until nothing is missing, or until the drain begins; return whether the process is ready now."""
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
        """Report not ready from now on; return whether the process was ever ready."""
        with self._changing:
            self.draining.set()
            self._show(False)  # noqa: FBT003 - a callback
        return self._ready
