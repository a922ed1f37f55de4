"""K: tokens whose issuer is asked. Each answer that a real server gives is in tests/unit/core/test_introspection.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from authz.core.introspection import Introspection, IntrospectionMode, IntrospectionResponse, introspection_need
from authz.core.needs import Facts
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from tests.cases.case import Case, case
from tests.fixtures import ABSENT, A, B, T, changed, issuer_a, make_snapshot, mint

RULES: Final = Introspection(client="rs", source="https://a.test/introspect as rs")
ALWAYS: Final = replace(RULES, mode=IntrospectionMode.ALWAYS)
OPAQUE: Final = "XMQdFed_ds5tJ2ns4ZadQpk1xWJnJSecWjs15_vh8Wh"
JWT: Final = mint()


def world(rules: Introspection = RULES) -> Snapshot:
    """Have issuer A asked about opaque tokens, and about others as *rules* say."""
    return make_snapshot(a=replace(issuer_a(), introspection=rules), opaque=(("", A),))


def said(token: str = OPAQUE, rules: Introspection = RULES, note: str = "", **changes: object) -> Facts:
    """Answer about *token* as a good server does, with changes."""
    good = {"active": True, "sub": "bob", "aud": "api", "exp": T + 300, "token_type": "Bearer"}
    return {introspection_need(token, "a", rules): IntrospectionResponse(changed(good, changes), note=note)}


CASES: Final[list[Case]] = [
    case("opaque-K01", Reason.AUTHENTICATED, OPAQUE, snapshot=world(), facts=said(), sees={"x-user-id": "bob"}),
    case("not-asked-K02", Reason.INTROSPECTION_UNAVAILABLE, OPAQUE, snapshot=world()),
    case("inactive-K03", Reason.TOKEN_INACTIVE, OPAQUE, snapshot=world(), facts=said(active=False)),
    case("refresh-token-K04", Reason.TYP_NOT_ALLOWED, OPAQUE, snapshot=world(), facts=said(token_type=ABSENT)),
    case("refresh-use-K05", Reason.TYP_NOT_ALLOWED, OPAQUE, snapshot=world(), facts=said(token_use="refresh_token")),
    case("other-issuer-K06", Reason.ISSUER_UNKNOWN, OPAQUE, snapshot=world(), facts=said(iss=B)),
    case("expired-K07", Reason.TOKEN_EXPIRED, OPAQUE, snapshot=world(), facts=said(exp=T)),
    case("no-audience-K08", Reason.AUDIENCE_MISMATCH, OPAQUE, snapshot=world(), facts=said(aud=ABSENT)),
    case("no-token68-K09", Reason.TOKEN_MALFORMED, "gar*bage", snapshot=world()),
    case("no-answers-yet-K10", Reason.INTROSPECTION_UNAVAILABLE, JWT, snapshot=world(ALWAYS)),
    case("jwt-K11", Reason.AUTHENTICATED, JWT, snapshot=world(ALWAYS), facts=said(JWT, ALWAYS)),
    case("jwt-revoked-K12", Reason.TOKEN_INACTIVE, JWT, snapshot=world(ALWAYS), facts=said(JWT, ALWAYS, active=False)),
    case("jwt-of-another-K13", Reason.TOKEN_INACTIVE, JWT, snapshot=world(ALWAYS), facts=said(JWT, ALWAYS, sub="eve")),
    case("jwt-as-refresh-K14", Reason.TYP_NOT_ALLOWED, JWT, snapshot=world(ALWAYS), facts=said(JWT, ALWAYS, typ="ID")),
]
