"""L: tokens that were revoked before they expire, by each thing that an entry can name; and those that were not."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from authz.core.reasons import Reason
from authz.core.revocation import RevocationEntry, RevocationSource, RevocationTable, RevokedBy, token_digest
from authz.core.snapshot import Snapshot
from authz.core.token import parse_token
from tests.cases.case import Case, case
from tests.cases.introspection import ALWAYS, OPAQUE, RULES, said
from tests.fixtures import A_EC, A_RSA, ABSENT, A, B, T, issuer_a, key_set, make_snapshot, mint

THUMBPRINT: Final = key_set(A_RSA).keys[0].thumbprint
JWT: Final = mint(jti="one", sid="s1", azp="shop")


def world(
    by: RevokedBy, value: str, *, issuer: str = A, before: float | None = None, until: float = T + 60
) -> Snapshot:
    """Revoke something; issuer A can be asked about opaque tokens."""
    table = RevocationTable([RevocationEntry(by, issuer, value, before, until)], max_entries=10)
    a = replace(issuer_a(), introspection=RULES)
    return make_snapshot(a=a, opaque=(("", A),), revocations=(RevocationSource("logout", table),))


def missing(*, asked: bool = False) -> Snapshot:
    """Lack the list of a source, beside one that revokes the subject bob."""
    snapshot = world(RevokedBy.SUBJECT, "eve")
    lost = RevocationSource("partner", RevocationTable(max_entries=0), available=False)
    a = replace(issuer_a(), introspection=ALWAYS if asked else RULES)
    return replace(snapshot, issuers={A: a}, revocations=(lost, *snapshot.revocations))


REVOKED_CAUSES: Final = {
    "in [a source](../feeds/REVOCATION.md)": {
        "session": (JWT, world(RevokedBy.SESSION, "s1")),
        "token": (JWT, world(RevokedBy.TOKEN, "one")),
    },
}
UNAVAILABLE_CAUSES: Final = {
    "a required list was never loaded, or is too old": {"missing": (JWT, missing())},
}
REVOKED: Final = Reason.TOKEN_REVOKED
ALLOWED: Final = Reason.AUTHENTICATED
CASES: Final[list[Case]] = [
    case("token-L01", REVOKED, JWT, snapshot=world(RevokedBy.TOKEN, "one")),
    case("other-token-L02", ALLOWED, JWT, snapshot=world(RevokedBy.TOKEN, "two")),
    case("token-of-another-issuer-L03", ALLOWED, JWT, snapshot=world(RevokedBy.TOKEN, "one", issuer=B)),
    case("digest-L04", REVOKED, JWT, snapshot=world(RevokedBy.DIGEST, token_digest(parse_token(JWT)))),
    case("session-L05", REVOKED, JWT, snapshot=world(RevokedBy.SESSION, "s1")),
    case("session-of-no-text-L06", ALLOWED, mint(sid=["s1"]), snapshot=world(RevokedBy.SESSION, "s1")),
    case("subject-L07", REVOKED, JWT, snapshot=world(RevokedBy.SUBJECT, "bob", before=T)),
    case("subject-issued-later-L08", ALLOWED, JWT, snapshot=world(RevokedBy.SUBJECT, "bob", before=T - 1)),
    case("subject-of-unknown-age-L09", REVOKED, mint(iat=ABSENT), snapshot=world(RevokedBy.SUBJECT, "bob", before=5)),
    case("client-L10", REVOKED, JWT, snapshot=world(RevokedBy.CLIENT, "shop")),
    case(
        "client-by-another-name-L11", REVOKED, mint(client_id="x", azp="shop"), snapshot=world(RevokedBy.CLIENT, "shop")
    ),
    case("other-client-L12", ALLOWED, mint(client_id=7), snapshot=world(RevokedBy.CLIENT, "shop")),
    case("key-L13", REVOKED, JWT, snapshot=world(RevokedBy.KEY, THUMBPRINT)),
    case("key-by-its-id-L14", REVOKED, JWT, snapshot=world(RevokedBy.KEY, "a-rsa")),
    case("other-key-L15", ALLOWED, mint(A_EC, cnf=ABSENT), snapshot=world(RevokedBy.KEY, "a-rsa")),
    case("entry-that-has-ended-L16", ALLOWED, JWT, snapshot=world(RevokedBy.TOKEN, "one", until=T - 7200)),
    case("opaque-L17", REVOKED, OPAQUE, snapshot=world(RevokedBy.SUBJECT, "bob"), facts=said()),
    case(
        "opaque-digest-L18",
        REVOKED,
        OPAQUE,
        snapshot=world(RevokedBy.DIGEST, token_digest(OPAQUE)),
        facts=said(),
    ),
    case("opaque-other-key-L19", ALLOWED, OPAQUE, snapshot=world(RevokedBy.KEY, "a-rsa"), facts=said()),
    case("email-L24", REVOKED, mint(email="Eve@Example.com"), snapshot=world(RevokedBy.EMAIL, "eve@example.com")),
    case("no-email-L25", ALLOWED, mint(email=["eve@example.com"]), snapshot=world(RevokedBy.EMAIL, "eve@example.com")),
    case("list-is-missing-L20", Reason.REVOCATIONS_UNAVAILABLE, JWT, snapshot=missing()),
    case("revoked-though-another-list-is-missing-L21", REVOKED, mint(sub="eve"), snapshot=missing()),
    case("revoked-before-its-issuer-is-asked-L22", REVOKED, mint(sub="eve"), snapshot=missing(asked=True)),
    case(
        "expired-is-not-called-revoked-L23",
        Reason.TOKEN_EXPIRED,
        mint(jti="one", exp=T),
        snapshot=world(RevokedBy.TOKEN, "one"),
    ),
]
