"""The numbered steps of the pipeline, for whoever wants to watch it decide."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class Step(IntEnum):
    """What `authorize` does, in its order and by its numbers."""

    REQUEST = 1
    RULE = 2
    TOKEN = 3
    FORM = 4
    ISSUER = 5
    ALGORITHM = 6
    KEYS = 7
    KEY = 8
    SIGNATURE = 9
    CLAIMS = 10
    BINDING = 11
    REQUIREMENTS = 12
    HEADERS = 13


StepObserver = Callable[[int, object], None]
"""Is told the number of each step that was passed, and what came of it: a value of the core, secrets included.

A decision whose last passed step is n < 13 ended at n + 1, unless it is an allow.
"""


def ignore_step(_step: int, _came_of_it: object) -> None:
    """StepObserver nothing."""
