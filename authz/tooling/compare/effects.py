"""The effects of a new configuration on requests, compared with the old one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Effect(StrEnum):
    """The effect of a change on requests.

    *BREAKS*: requests fail until Envoy is reconfigured; *WIDENS*: more are allowed; *NARROWS*: fewer; *MIXED*: some are
    now allowed, others now denied; *CHANGES*: the same are allowed, with another result; *UNKNOWN*: not decidable from
    the files. The values of `authz.core.strictness` are among these.
    """

    BREAKS = "breaks"
    WIDENS = "widens"
    MIXED = "mixed"
    UNKNOWN = "unknown"
    NARROWS = "narrows"
    CHANGES = "changes"
    SAME = "same"


NEEDS_REVIEW: Final = frozenset({Effect.BREAKS, Effect.WIDENS, Effect.MIXED, Effect.UNKNOWN})
"""Effects that need a review before deployment."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change: its effect, its subject, and what was and is; *also* are requests with the same change."""

    effect: Effect
    about: str
    text: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.effect:7}  {self.about}: {self.text}", *(f"{'':7}  {line}" for line in self.also)])

    def document(self) -> dict[str, Any]:
        """Return the same as JSON data."""
        return {"effect": self.effect.value, "about": self.about, "text": self.text, "also": list(self.also)}
