"""What a decision lacks: named by the core, gathered by the checker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """One fact that a decision could use. *kind* names the lane that answers it."""

    kind: str  # which lane answers it, e.g. "key"
    of: str  # whom it is asked of: the configured name of an issuer
    asked: str | None  # what is asked: a key id; None: a key without an id
