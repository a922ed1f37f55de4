"""When to read the configuration file again: it was replaced, or a reload was requested."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Final

from authz.files.watch import FileWatch

WATCH_INTERVAL: Final = 1.0  # seconds between two checks of the file


class ReloadLoop:
    """Calls *take_up* for each new state of a file, and for each request, until *stopping* is set.

    *gone* is called once when the file has been missing for several checks.
    """

    def __init__(
        self,
        watch: FileWatch,
        *,
        take_up: Callable[[], None],
        gone: Callable[[], None],
        stopping: Event,
        requested: Event | None = None,
    ) -> None:
        self._watch: Final = watch
        self._take_up: Final = take_up
        self._gone: Final = gone
        self._stopping: Final = stopping
        self._requested: Final = requested if requested is not None else Event()

    def request(self) -> None:
        """Request that the file is read again soon, whether or not it changed."""
        self._requested.set()

    def run(self) -> None:
        """Check the file until *stopping* is set."""
        while not self._stopping.is_set():
            asked = self._requested.wait(WATCH_INTERVAL)
            if asked:  # a request that comes at the end of a wait is kept for the next check
                self._requested.clear()
            if self._watch.changed(asked=asked):
                self._take_up()
            elif self._watch.gone():
                self._gone()
