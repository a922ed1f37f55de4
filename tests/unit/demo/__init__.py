"""The embedded parts of the demo, each by its own file."""

from __future__ import annotations
