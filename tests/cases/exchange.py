"""L: decisions about requests whose token an issuer exchanges for one for the upstream, and what keeps it from that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from authz.core.authorize import authorize
from authz.core.exchange import Exchange, Exchanged, ExchangeRefused
from authz.core.identity import Identity
from authz.core.needs import Facts
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from tests.cases.case import Case, case
from tests.fixtures import DEFAULT_SNAPSHOT, T, ask, mint

EXCHANGE: Final = Exchange(issuer="a", source="a as gateway", subjects=frozenset({"a"}), audiences=("orders",))
TOKEN: Final = mint()


def exchanging(snapshot: Snapshot = DEFAULT_SNAPSHOT, /, **changes: Any) -> Snapshot:  # noqa: ANN401 - fields of Exchange
    """Have tokens exchanged in the world of *snapshot*, with *changes* to how."""
    return replace(snapshot, identity=Identity(token_header="x-token"), exchange=replace(EXCHANGE, **changes))


WORLD: Final = exchanging()


def given(fact: object, token: str = TOKEN, snapshot: Snapshot = WORLD) -> Facts:
    """Answer the need of the decision about *token* with *fact*."""
    (need,) = authorize(ask(token), snapshot, T).trail.needs
    return {need: fact}


OURS: Final = Exchanged("for-orders", T + 300.0)
SEEN: Final = {"x-token": "for-orders"}
CASES: Final[list[Case]] = [
    case(
        "exchanged-L01", Reason.AUTHENTICATED, TOKEN, snapshot=WORLD, facts=given(OURS), sees={"x-token": "for-orders"}
    ),
    case("no-end-L02", Reason.AUTHENTICATED, TOKEN, snapshot=WORLD, facts=given(Exchanged("opaque", None))),
    case("not-asked-L03", Reason.UPSTREAM_TOKEN_UNAVAILABLE, TOKEN, snapshot=WORLD),
    case("ended-L04", Reason.UPSTREAM_TOKEN_UNAVAILABLE, TOKEN, snapshot=WORLD, facts=given(Exchanged("old", T + 2.0))),
    case(
        "invalid-L05", Reason.TOKEN_INACTIVE, TOKEN, snapshot=WORLD, facts=given(ExchangeRefused("400", invalid=True))
    ),
    case(
        "refused-L06",
        Reason.UPSTREAM_TOKEN_REFUSED,
        TOKEN,
        snapshot=WORLD,
        facts=given(ExchangeRefused("400", invalid=False)),
    ),
    case("another-issuer-L07", Reason.POLICY_DENIED, TOKEN, snapshot=exchanging(subjects=frozenset({"b"}))),
]
UNANSWERED_CAUSES: Final[dict[str, tuple[Any, ...]]] = {"not-exchanged": (TOKEN, WORLD)}
OTHER_ISSUER_CAUSES: Final[dict[str, tuple[Any, ...]]] = {
    "not-a-subject": (TOKEN, exchanging(subjects=frozenset({"b"}))),
}
