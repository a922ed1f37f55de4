"""The form of the modules that decide: compiled to extension modules, or their source."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final


def _name_form() -> str:
    """Return "pure" if Python runs the source of the modules that decide, else "compiled"; neither is imported."""
    spec = find_spec("authz.core.authorize")
    return "pure" if spec is None or (spec.origin or "").endswith(".py") else "compiled"


FORM: Final = _name_form()
