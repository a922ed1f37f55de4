"""What a new configuration opens or closes, told from what was built of the old one and of the new."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Effect(StrEnum):
    """What a change does to requests.

    *BREAKS* needs another Envoy than the old file, or requests fail; *BOTH* lets some through that were refused, and
    refuses others; *CHANGES* lets the same ones through, and does something else otherwise; of *UNKNOWN* the files do
    not tell.
    """

    BREAKS = "breaks"
    OPENS = "opens"
    BOTH = "both"
    UNKNOWN = "unknown"
    CLOSES = "closes"
    CHANGES = "changes"
    SAME = "same"


LOUD: Final = frozenset({Effect.BREAKS, Effect.OPENS, Effect.BOTH, Effect.UNKNOWN})
"""What somebody should look at before it is deployed."""


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


def combine(effects: Iterable[Effect]) -> Effect:
    """Return the effect of several changes that all count at once."""
    found = set(effects)
    if Effect.UNKNOWN in found:
        return Effect.UNKNOWN
    if Effect.BOTH in found or {Effect.OPENS, Effect.CLOSES} <= found:
        return Effect.BOTH
    return next((each for each in Effect if each in found), Effect.SAME)


def one_of(old: Iterable[object], new: Iterable[object]) -> Effect:
    """Compare values of which one is enough; none at all asks nothing."""
    before, after = set(old), set(new)
    if before == after:
        return Effect.SAME
    if not after or (before and before < after):
        return Effect.OPENS
    return Effect.CLOSES if not before or after < before else Effect.BOTH


def all_of(old: Iterable[object], new: Iterable[object]) -> Effect:
    """Compare values of which each is asked."""
    before, after = set(old), set(new)
    if before == after:
        return Effect.SAME
    if after < before:
        return Effect.OPENS
    return Effect.CLOSES if before < after else Effect.BOTH


def any_listed(old: Iterable[object], new: Iterable[object]) -> Effect:
    """Compare lists of what is accepted; an empty one accepts nothing."""
    return _turn(all_of(old, new))


def at_most(old: float | None, new: float | None) -> Effect:
    """Compare upper bounds; None is no bound."""
    if old == new:
        return Effect.SAME
    return Effect.OPENS if new is None or (old is not None and new > old) else Effect.CLOSES


def _turn(effect: Effect) -> Effect:
    return {Effect.OPENS: Effect.CLOSES, Effect.CLOSES: Effect.OPENS}.get(effect, effect)
