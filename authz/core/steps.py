"""The numbered steps of the pipeline, for observers of a decision."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class Step(IntEnum):
    """The steps of `authorize`, in order and by number."""

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
"""Called with the number and the result of each step that passed; results may contain secrets.

If the last step that passed is n < 13, a denial happened at step n + 1.
"""


def ignore_step(_step: int, _result: object) -> None:
    """Ignore the step."""
