"""K: decisions about requests for which the sidecar mints a token, and what keeps it from that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from authz.core.claims import ClaimPath
from authz.core.identity import Identity
from authz.core.minting import CopiedValue, MintedClaim, Minting, SigningKey, TokenFormat
from authz.core.snapshot import Snapshot
from tests.cases.exchange import UNANSWERED_CAUSES
from tests.fixtures import ABSENT, DEFAULT_SNAPSHOT, T, issuer_a, make_snapshot, mint

KEY: Final = SigningKey("ours-1", "ES256")
MINTING: Final = Minting(
    header="x-token",
    format=TokenFormat.JWT,
    lifetime=120.0,
    digest="configuration",
    audiences=("orders",),
    issuer="https://gateway.test",
    key=KEY,
)
NO_SUB: Final = issuer_a(required=("exp",))
TOLERANT: Final = issuer_a(leeway=30.0)
BIG: Final = MintedClaim(ClaimPath(("big",)), CopiedValue("big", ClaimPath(("big",))))


def minting(snapshot: Snapshot = DEFAULT_SNAPSHOT, /, **changes: Any) -> Snapshot:  # noqa: ANN401 - fields of Minting
    """Have tokens minted in the world of *snapshot*, with *changes* to how."""
    how = replace(MINTING, **changes)
    return replace(snapshot, identity=Identity(token_header=how.header), minting=how)


UNAVAILABLE_CAUSES: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "no key could be read or generated": {"no-key": (mint(), minting(key=None))},
    "the key is elsewhere, and slow or away": {"not-signed": (mint(), minting())},
    "no answer, or another token than was asked for": (UNANSWERED_CAUSES),
}
LEEWAY_CAUSES: Final[dict[str, tuple[Any, ...]]] = {
    "in-leeway": (mint(exp=T), minting(make_snapshot(a=TOLERANT))),
    "about-to-end": (mint(exp=T + 0.5), minting()),
}
SUBJECT_CAUSES: Final[dict[str, tuple[Any, ...]]] = {
    "transaction-of-none": (
        mint(sub=ABSENT),
        minting(make_snapshot(a=NO_SUB), format=TokenFormat.TRANSACTION, workload="gateway"),
    ),
    "sub-from-a-list": (
        mint(),
        minting(claims=(MintedClaim(ClaimPath(("sub",)), CopiedValue("groups", ClaimPath(("groups",)))),)),
    ),
}
SIZE_CAUSES: Final[dict[str, tuple[Any, ...]]] = {"big-claim": (mint(big="x" * 5_000), minting(claims=(BIG,)))}
