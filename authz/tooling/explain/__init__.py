"""Explain one decision, step by step."""

from __future__ import annotations
