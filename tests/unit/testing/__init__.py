"""The tests of authz.testing."""

from __future__ import annotations
