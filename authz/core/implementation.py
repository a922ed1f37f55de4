"""Which implementation of the core runs: its Python source, or extension modules compiled from it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final


def _find_implementation() -> str:
    """Return "pure" if Python runs the source of the core, else "compiled". Nothing is imported for that."""
    spec = find_spec("authz.core.authorize")
    return "pure" if spec is None or (spec.origin or "").endswith(".py") else "compiled"


IMPLEMENTATION: Final = _find_implementation()
