"""The exception for a failed refresh."""

from __future__ import annotations

from authz.telemetry.keys import Refresh


class RefreshError(Exception):
    """Raised if a refresh gave no usable document. *result* is for metrics, *detail* for the operator.

    *retry_after* is the number of seconds from the Retry-After header, None if absent.
    """

    def __init__(self, result: Refresh, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.result = result
        self.retry_after = retry_after
