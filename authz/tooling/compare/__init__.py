"""Compare two configurations: what the new one allows, denies and breaks."""

from __future__ import annotations
