"""L: tokens that name a status list, the list that is there, and each cause that REASONS lists for it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from authz.core.needs import Facts
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.core.status_list import StatusList, StatusReference, StatusRules, read_status_list, status_list_need
from authz.demo.signing import SigningKey
from tests.cases.case import Case, case
from tests.fixtures import A_RSA, ABSENT, T, changed, issuer_a, make_snapshot, mint, signer

URI: Final = "https://status.example.com/lists/1"
RULES: Final = StatusRules(uris=("https://status.example.com/lists/",))
REVOKED, SUSPENDED, CUSTOM = 3, 4, 5  # what the entries with these indices are not


def world(rules: StatusRules | None = RULES) -> Snapshot:
    """Return a snapshot whose issuer A has status lists."""
    return make_snapshot(a=replace(issuer_a(), status_list=rules))


def referring(index: object = 0, uri: object = URI) -> str:
    """Mint a token of issuer A that names an entry."""
    return mint(status={"status_list": {"idx": index, "uri": uri}})


def pack(*statuses: int, bits: int = 2) -> dict[str, object]:
    """Write the entries as a server does."""
    octets = bytearray(-(-len(statuses) * bits // 8))
    for index, status in enumerate(statuses):
        octets[index * bits // 8] |= status << index * bits % 8
    return {"bits": bits, "lst": base64.urlsafe_b64encode(zlib.compress(octets, 9)).rstrip(b"=").decode()}


def write_list(
    *,
    by: SigningKey = A_RSA,
    header: Mapping[str, object] = {},
    entries: Mapping[str, object] | None = None,
    **claims: Any,  # noqa: ANN401
) -> str:
    """Write a list in which all but three entries are VALID."""
    packed = dict(entries) if entries is not None else pack(0, 0, 0, 1, 2, 3, 0, 0)
    head = changed({**by.header(), "typ": "statuslist+jwt"}, header)
    body = {"sub": URI, "iat": T - 60, "exp": T + 3600, "ttl": 300, "status_list": packed}
    return by.sign_bytes(json.dumps(changed(body, claims)).encode(), header=json.dumps(head).encode())


def read(text: str) -> StatusList:
    """Read a list within generous bounds."""
    return read_status_list(text, max_bytes=100_000, max_inflated=100_000)


def listed(**changes: Any) -> Facts:  # noqa: ANN401
    """Have the list at hand, with changes."""
    return {status_list_need(StatusReference(0, URI), "a"): read(write_list(**changes))}


_UNAVAILABLE: Final = Reason.REVOCATIONS_UNAVAILABLE
Row = tuple[str, Snapshot, dict[str, Any]]


def _row(token: str, *, rules: StatusRules = RULES, **changes: Any) -> Row:  # noqa: ANN401
    return token, world(rules), {"facts": listed(**changes)}


_OTHERS: Final = StatusRules(uris=("https://status.example.com/lists/2", "https://other.example.com/"))

MALFORMED_CAUSES: Final[dict[str, dict[str, Row]]] = {
    "not as draft-ietf-oauth-status-list says": {
        "status": _row(mint(status="valid")),
        "status-list": _row(mint(status={"status_list": [0]})),
        "idx": _row(referring(-1)),
        "uri": _row(referring(0, 7)),
    },
    "the token names no list": {"no-list": _row(mint())},
}
REVOKED_CAUSES: Final[dict[str, dict[str, Row]]] = {
    "the issuer's status list says so": {
        "invalid": _row(referring(REVOKED)),
        "suspended": _row(referring(SUSPENDED)),
        "custom": _row(referring(CUSTOM)),
    },
}
UNAVAILABLE_CAUSES: Final[dict[str, dict[str, Row]]] = {
    "its server is down or slow": {"not-fetched": (referring(), world(), {})},
    "a list that is not configured": {"other-uri": _row(referring(), rules=_OTHERS)},
    "the list is not the one that the token names": {"other-subject": _row(referring(), sub=f"{URI}0")},
    "the server has no fresh list": {"expired": _row(referring(), exp=T - 30)},
    "the clock of the server, or ours": {"ahead": _row(referring(), iat=T + 31)},
    "the list is too short": {"beyond": _row(referring(8))},
    "the issuer did not sign the list": {
        "stranger": _row(referring(), by=signer("RS256", "stranger")),
        "other-key": _row(referring(), by=signer("RS256", "other"), header={"kid": A_RSA.kid}),
        "algorithm": _row(referring(), by=signer("Ed448", "curve")),
    },
}

CASES: Final[list[Case]] = [
    case("valid-L01", Reason.AUTHENTICATED, referring(), snapshot=world(), facts=listed()),
    case("not-fetched-L02", _UNAVAILABLE, referring(), snapshot=world()),
    case("invalid-L03", Reason.TOKEN_REVOKED, referring(REVOKED), snapshot=world(), facts=listed()),
    case("suspended-L04", Reason.TOKEN_REVOKED, referring(SUSPENDED), snapshot=world(), facts=listed()),
    case("custom-L05", Reason.TOKEN_REVOKED, referring(CUSTOM), snapshot=world(), facts=listed()),
    case(
        "accepted-L06",
        Reason.AUTHENTICATED,
        referring(SUSPENDED),
        snapshot=world(replace(RULES, accepted=frozenset({0, 2}))),
        facts=listed(),
    ),
    case("beyond-L07", _UNAVAILABLE, referring(8), snapshot=world(), facts=listed()),
    case("other-uri-L08", _UNAVAILABLE, referring(), snapshot=world(_OTHERS), facts=listed()),
    case("other-subject-L09", _UNAVAILABLE, referring(), snapshot=world(), facts=listed(sub=f"{URI}0")),
    case("expired-L10", _UNAVAILABLE, referring(), snapshot=world(), facts=listed(exp=T - 30)),
    case("future-L11", _UNAVAILABLE, referring(), snapshot=world(), facts=listed(iat=T + 31)),
    case("other-key-L12", _UNAVAILABLE, referring(), snapshot=world(), facts=listed(by=signer("ES256", "stranger"))),
    case("no-reference-L13", Reason.CLAIMS_MALFORMED, mint(), snapshot=world(), facts=listed()),
    case(
        "none-needed-L14",
        Reason.AUTHENTICATED,
        mint(status={"other": 1}),
        snapshot=world(replace(RULES, required=False)),
    ),
    case("not-configured-L15", Reason.AUTHENTICATED, referring(REVOKED), snapshot=world(None)),
    case("status-no-object-L16", Reason.CLAIMS_MALFORMED, mint(status="valid"), snapshot=world()),
    case("reference-no-object-L17", Reason.CLAIMS_MALFORMED, mint(status={"status_list": [0]}), snapshot=world()),
    case("index-no-number-L18", Reason.CLAIMS_MALFORMED, referring("0"), snapshot=world()),
    case("index-boolean-L19", Reason.CLAIMS_MALFORMED, referring(index=True), snapshot=world()),
    case("index-negative-L20", Reason.CLAIMS_MALFORMED, referring(-1), snapshot=world()),
    case("uri-no-text-L21", Reason.CLAIMS_MALFORMED, referring(0, 7), snapshot=world()),
    case("no-expiry-L22", Reason.AUTHENTICATED, referring(), snapshot=world(), facts=listed(exp=ABSENT, ttl=ABSENT)),
]
