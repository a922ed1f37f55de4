"""Counts the refreshes of a document of revocations: of a list, or of the events that are polled."""

from __future__ import annotations

import logging
from typing import Final

from authz.feeds.failure import RefreshError
from authz.telemetry.keys import Refresh
from authz.telemetry.revocations import RevocationMetrics


class RefreshCounter:
    """Counts the refreshes of the document configured as *name*, and remembers whether the last one failed."""

    def __init__(self, name: str, metrics: RevocationMetrics) -> None:
        metrics.expect_list(name)
        self._name: Final = name
        self._metrics: Final = metrics
        self._failing = False

    def show_success(self, at: float) -> None:
        """Set the Unix time at which the document was last fetched or confirmed."""
        self._metrics.last_success.labels(self._name).set(at)

    def count_success(self, result: Refresh) -> None:
        """Count a success."""
        self._failing = False
        self._metrics.refreshes.labels(self._name, result.value).inc()

    def count_failure(self, error: RefreshError) -> int:
        """Count a failure, and return the level at which to log it: the first of several is a warning."""
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing = True
        self._metrics.refreshes.labels(self._name, error.result.value).inc()
        return level
