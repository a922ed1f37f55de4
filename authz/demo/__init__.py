"""A complete local stack: an identity provider, an upstream, a real Envoy, and the sidecar."""

from __future__ import annotations
