"""Facts that a decision lacks. The core names them as needs, and never fetches them.

`authorize` names its needs in the audit trail of its decision. The caller gathers the facts, and calls it again with
them. A decision that still has a need is final only if nothing can answer that kind of need, or time is up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from authz.core.reasons import Reason

KEY: Final = "key"  # the kind of a need for a key that its issuer may have published since
CHANGED_KEY: Final = "changed key"  # and for one that its issuer may have changed under its key id


@dataclass(frozen=True, slots=True)
class Need:
    """One fact that is missing.

    *kind* selects the lane that can answer it, *of* is the configured name of the issuer or source, and *asked* is the
    question: for a key its id, or None if the token names none; for other kinds a digest of all that decides the
    answer. *sent* is what the source gets to see: a token, for example. Without an answer in time, a denial has the
    reason *unanswered* instead.
    """

    kind: str
    of: str
    asked: str | None = field(repr=False)  # untrusted text of a token
    unanswered: Reason = field(default=Reason.KEYS_UNAVAILABLE, compare=False)
    sent: str = field(default="", repr=False, compare=False)  # may be secret, and is never kept in a cache

    @property
    def bare(self) -> Need:
        """The same need without what is sent."""
        return Need(self.kind, self.of, self.asked, self.unanswered)


@dataclass(frozen=True, slots=True)
class KeySearched:
    """The answer to a need for a key: it was looked for. *note* is what the operator should know of the search."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """In place of a fact: nobody can find it out at the moment, for the reason *why*, so that waiting is in vain."""

    why: str


Facts = Mapping[Need, object]
"""What was learned, by need. For a key it is KeySearched: the key itself comes with a snapshot."""

NO_FACTS: Final[Facts] = MappingProxyType({})
