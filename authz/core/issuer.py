"""One trusted identity provider, as part of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from authz.core.claims import ClaimRules
from authz.core.keys import KeySet


@dataclass(frozen=True, slots=True)
class Issuer:
    """The issuer configured as *name*. *keys* is None before the first good set, and past the last.

    *algorithms_written* says that the operator chose *algorithms*: then a key that names none serves each for its type.
    """

    name: str
    algorithms: frozenset[str]
    rules: ClaimRules
    keys: KeySet | None = None
    algorithms_written: bool = True
