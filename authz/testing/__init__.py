"""Evaluate requests against your configuration in a test, exactly as the sidecar does."""

from __future__ import annotations

from authz.core.reasons import Reason
from authz.demo.signing import SigningKey
from authz.testing.gateway import Gateway
from authz.testing.verdict import Verdict

__all__ = ["Gateway", "Reason", "SigningKey", "Verdict"]
