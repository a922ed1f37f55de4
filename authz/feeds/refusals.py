"""Log why messages that anyone may send are refused, in a bounded number of lines: a flood does not fill the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import Final

from authz.facts.budget import Budget

MAX_LINES: Final = 10  # at once
SECONDS_PER_LINE: Final = 6.0  # for each further one


class RefusalLog:
    """Writes to *log*, within a budget. Each line has the number of refusals before it that were not logged."""

    def __init__(self, log: logging.Logger, *, monotonic: Callable[[], float]) -> None:
        self._log: Final = log
        self._monotonic: Final = monotonic
        self._lock: Final = Lock()
        self._budget = Budget.full(MAX_LINES, SECONDS_PER_LINE, monotonic())
        self._unwritten = 0

    def write(self, subject: str, source: str, why: str) -> None:
        """Log that *subject* of *source* is refused, and *why*; without budget, only count it."""
        with self._lock:
            left = self._budget.spend(self._monotonic())
            if left is None:
                self._unwritten += 1
                return
            self._budget, before, self._unwritten = left, self._unwritten, 0
        more = f"; {before} more were refused before it" if before else ""
        self._log.warning("%s is refused (%s): %s%s", subject, source, why, more)
