"""Readiness of the process: starting, then ready, then draining."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from typing import Final

_POLL: Final = 0.05  # seconds between two checks of what readiness waits for


class Readiness:
    """The readiness for health checks and probes. A process that is ready stays ready whatever issuers do."""

    def __init__(self, *, missing: Callable[[], list[str]], show: Callable[[bool], None]) -> None:
        """*missing* returns what readiness waits for; *show* is called with the new state for health checks."""
        self._missing: Final = missing
        self._show: Final = show
        self._change_lock: Final = Lock()  # the last value shown must be the current one
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
        with self._change_lock:
            if self.draining.is_set():
                return False
            self._ready = True
            self._show(True)  # noqa: FBT003 - a callback
            return True

    def drain(self) -> bool:
        """Report not ready from now on; return whether the process was ever ready."""
        with self._change_lock:
            self.draining.set()
            self._show(False)  # noqa: FBT003 - a callback
        return self._ready
