"""The one way in which a refresh fails."""

from __future__ import annotations

from authz.telemetry.keys import Refresh


class RefreshError(Exception):
    """Raised if no usable document came. *result* is a word for metrics, the text is for the operator.

    *wait* is how many seconds the issuer asked to be left alone.
    """

    def __init__(self, result: Refresh, detail: str, *, wait: float | None = None) -> None:
        super().__init__(detail)
        self.result = result
        self.wait = wait
