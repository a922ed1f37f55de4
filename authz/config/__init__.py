"""The configuration file: from YAML text to a validated model, with all problems reported at once."""

from __future__ import annotations
