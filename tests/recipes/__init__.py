"""Each file of deploy/recipes, against a simulated provider of its shape."""

from __future__ import annotations
