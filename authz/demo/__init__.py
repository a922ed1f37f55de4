"""The whole on a machine with nothing on it: an identity provider, an upstream, a real Envoy, and the sidecar."""

from __future__ import annotations
