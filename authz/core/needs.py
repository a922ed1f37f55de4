"""Needs: facts that a decision lacks. The core declares them and never fetches them.

`authorize` lists its needs in the audit trail of its decision. The caller gathers the facts and calls it again with
them. A decision with needs is final only if nothing can answer them, or if the time limit has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from authz.core.reasons import Reason
from authz.core.record import hashed_record

KEY: Final = "key"  # kind of a need for a key that the issuer may have published recently
PROOF: Final = "proof"  # kind of a need to know whether a proof was used before; `payload` is "until thumbprint"
MAX_ROUNDS: Final = 6
"""How often one decision may wait for facts. All needs of a decision are one round; six rounds depend on each other:

1. A key that may be new. No issuer is asked about a token before its signature verifies: anyone could forge thousands.
2. Introspection and status list, together. A revoked token causes no question to a risk engine, which may cost money.
3. The risk engine. No PDP is asked about a request that is too risky.
4. The PDP, which hears only of requests that are otherwise allowed.
5. The token for the upstream: none is minted or exchanged for a request that is denied.
6. The use of a proof, which uses it up: if a fact were missing after that, the client could not repeat its request.

Merging two rounds would lose what the list promises of the later one. A request has no more rounds than needs that no
cache answers, usually none. A status list or a signed response under yet another new key needs one more round; if that
is the seventh, the denial is retryable, and the repeated request finds the facts in the caches.
"""
CHANGED_KEY: Final = "changed key"  # kind of a need for a key that may have been replaced under the same key id


@hashed_record
class Need:
    """One fact that is missing.

    *kind* selects the lane that can answer it, and *source* is the configured name of the issuer or other source.
    *identifier* tells it from other needs: for a key it is the key id, or None if the token has none; for most other
    kinds it is a digest of all that decides the answer. *payload* is what the source receives: a token, for example.
    Without an answer in time, a denial has the reason *unanswered* instead; but if the need is *optional*, the request
    is decided once more with Unanswered as the fact. A need that *renews* is for a known fact that expires soon. The
    answer to a *single_use* one is for one request: two requests with equal needs may get different ones.
    """

    kind: str
    source: str
    identifier: str | None = field(repr=False)  # untrusted text of a token
    unanswered: Reason = field(default=Reason.KEYS_UNAVAILABLE, compare=False)
    payload: str = field(default="", repr=False, compare=False)  # may be secret, and is never kept in a cache
    optional: bool = field(default=False, compare=False)
    renews: bool = field(default=False, compare=False)
    single_use: bool = field(default=False, compare=False)

    @property
    def without_payload(self) -> Need:
        """The same need, without its payload."""
        return Need(self.kind, self.source, self.identifier, self.unanswered, optional=self.optional)


# Not a literal `()`: mypy narrows an attribute that it is assigned to, and code compiled by mypyc raises TypeError if a
# call has added needs since.
NO_NEEDS: Final[tuple[Need, ...]] = ()


@dataclass(frozen=True, slots=True)
class KeySearched:
    """The answer to a need for a key: the search has ended. *note* is what the operator should know about it."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Takes the place of a fact that is not available now, for the reason *why*: waiting does not help.

    *absent* means that the source does not answer at all. Neither this question nor a limit of ours is the cause.
    """

    why: str
    absent: bool = False


Facts = Mapping[Need, object]
"""The gathered facts by need. For a key the fact is KeySearched: the key itself is in the next snapshot."""

NO_FACTS: Final[Facts] = MappingProxyType({})
