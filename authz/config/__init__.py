"""The configuration file: YAML text to a validated model, with every problem reported at once."""

from __future__ import annotations
