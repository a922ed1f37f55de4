"""Compare two configurations: what the new one lets through, refuses and breaks."""

from __future__ import annotations
