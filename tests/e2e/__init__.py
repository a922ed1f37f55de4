"""The real Envoy asks the real sidecar, as in production."""

from __future__ import annotations
