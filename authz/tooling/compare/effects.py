"""What a new configuration lets through or refuses, compared by what is built from the old one and the new one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Effect(StrEnum):
    """What a change does to requests.

    *BREAKS* needs another Envoy than the old file, or requests fail; *WIDENS* lets more through, *NARROWS* less,
    *MIXED* some that were refused, and refuses others; *CHANGES* lets the same ones through, and does something else
    otherwise; *UNKNOWN* cannot be decided from the files. The words of `authz.core.strictness` are among these.
    """

    BREAKS = "breaks"
    WIDENS = "widens"
    MIXED = "mixed"
    UNKNOWN = "unknown"
    NARROWS = "narrows"
    CHANGES = "changes"
    SAME = "same"


NEEDS_REVIEW: Final = frozenset({Effect.BREAKS, Effect.WIDENS, Effect.MIXED, Effect.UNKNOWN})
"""What needs a review before it is deployed."""


@dataclass(frozen=True, slots=True)
class Change:
    """Its effect, what it is about, and what was and is; *also* are requests of which the same is true."""

    effect: Effect
    about: str
    text: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.effect:7}  {self.about}: {self.text}", *(f"{'':7}  {each}" for each in self.also)])

    def document(self) -> dict[str, Any]:
        """Write the same as data."""
        return {"effect": self.effect.value, "about": self.about, "text": self.text, "also": list(self.also)}
