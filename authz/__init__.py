"""Authorization sidecar for Envoy: verifies the bearer token of every request over ext_authz."""

from __future__ import annotations

__version__ = "0.1.0"
