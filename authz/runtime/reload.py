"""Detect when to read the configuration file again: after it was replaced, or on request."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Final

from authz.files.watch import FileWatch

WATCH_INTERVAL: Final = 1.0  # seconds between two checks of the file


class ReloadLoop:
    """Calls *on_change* for each new state of a file, and for each request, until *stopping* is set.

    *on_removed* is called once when the file has been missing for several checks.
    """

    def __init__(
        self,
        watch: FileWatch,
        *,
        on_change: Callable[[], None],
        on_removed: Callable[[], None],
        stopping: Event,
        requested: Event | None = None,
    ) -> None:
        self._watch: Final = watch
        self._on_change: Final = on_change
        self._on_removed: Final = on_removed
        self._stopping: Final = stopping
        self._requested: Final = requested if requested is not None else Event()

    def request(self) -> None:
        """Request that the file is read again soon, whether or not it changed."""
        self._requested.set()

    def run(self) -> None:
        """Check the file until *stopping* is set."""
        while not self._stopping.is_set():
            requested = self._requested.wait(WATCH_INTERVAL)
            if requested:  # a request at the end of a wait is kept for the next check
                self._requested.clear()
            if self._watch.changed(force=requested):
                self._on_change()
            elif self._watch.gone():
                self._on_removed()
