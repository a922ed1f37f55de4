"""D: what the payload claims, and when."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from typing import Final
from urllib.parse import quote

from authz.core import base64url
from authz.core.reasons import Reason
from tests.cases.case import case, cases
from tests.fixtures import A_RSA, ABSENT, CLAIMS, A, T, changed, issuer_a, make_snapshot, mint

BAD, LATE, EARLY, OTHERS, GOOD = (
    Reason.CLAIMS_MALFORMED,
    Reason.TOKEN_EXPIRED,
    Reason.TOKEN_NOT_YET_VALID,
    Reason.AUDIENCE_MISMATCH,
    Reason.AUTHENTICATED,
)
LENIENT: Final = make_snapshot(a=issuer_a(leeway=60))
BOUNDED: Final = make_snapshot(a=issuer_a(max_lifetime=3600.0))
ACCESS_ONLY: Final = make_snapshot(a=issuer_a(token_types=frozenset({"at+jwt"})))
LOGOUT: Final[dict[str, object]] = {"http://schemas.openid.net/event/backchannel-logout": {}}
ID_TOKEN: Final = {"nonce": "n", "at_hash": "h", "aud": "api"}
# Any octets serve as a certificate here: only their thumbprint counts.
DER: Final = bytes(range(256))
BOUND: Final = {"cnf": {"x5t#S256": base64url.encode(hashlib.sha256(DER).digest()).decode()}}


def pem(der: bytes) -> str:
    """Write a certificate as Envoy does: PEM, URL-encoded."""
    return quote(f"-----BEGIN CERTIFICATE-----\n{b64encode(der).decode()}\n-----END CERTIFICATE-----\n", safe="")


CERTIFICATE: Final = pem(DER)


def raw(**members: str) -> str:
    """Sign good claims with members in JSON as it is written, which may be no JSON at all."""
    kept = changed(CLAIMS, dict.fromkeys(members, ABSENT))
    text = json.dumps(kept)[:-1] + "".join(f',"{name}":{value}' for name, value in members.items()) + "}"
    return mint(payload=text.encode())


def literal(text: str) -> str:
    """Sign a payload that is this text."""
    return mint(payload=text.encode())


NO_DATES: Final[dict[str, object]] = {
    "true": True,
    "false": False,
    "null": None,
    "list": [],
    "object": {},
    "negative": -1,
    "text": "1795446515",
    "text-of-the-future": str(T + 300),
    "date": "2030-01-01T00:00:00Z",
}
BODY: Final = json.dumps(CLAIMS)[1:]

CASES: Final = [
    *cases(
        "as-exp-D01",
        BAD,
        {
            value: raw(exp=value)
            for value in ("NaN", "Infinity", "-Infinity", "1e400", "0x7fffffff", "1" * 65, "9" * 5000)
        },
    ),
    *cases("as-nbf-D01", BAD, {value: raw(nbf=value) for value in ("NaN", "-Infinity", "-1e400")}),
    *cases("anywhere-D01", BAD, {value: raw(other=f'{{"deep":[{value}]}}') for value in ("NaN", "Infinity", "1e400")}),
    *cases("as-exp-D02", BAD, {"text": mint(exp="1795446515"), "text-of-the-future": mint(exp=str(T + 300))}),
    case("exp-with-a-fraction-D03", GOOD, mint(exp=T + 300.5)),
    case("exp-with-an-exponent-D03", GOOD, raw(exp="1.8000003e9")),
    *[
        case(f"{kind}-as-{name}-D04", BAD, mint(claims={name: value}))
        for name in ("exp", "nbf", "iat")
        for kind, value in NO_DATES.items()
    ],
    case("exp-zero-D04", LATE, mint(exp=0, iat=0)),
    case("nbf-zero-and-iat-zero-D04", GOOD, mint(nbf=0, iat=0)),
    case("exp-missing-D06", BAD, mint(exp=ABSENT)),
    case("expired-a-second-ago-D07", LATE, mint(exp=T - 1)),
    case("expires-now-D07", LATE, mint(exp=T)),
    case("expires-in-a-second-D07", GOOD, mint(exp=T + 1)),
    case("expired-at-the-leeway-D07", LATE, mint(exp=T - 60, iat=T - 99), snapshot=LENIENT),
    case("expired-within-the-leeway-D07", GOOD, mint(exp=T - 59, iat=T - 99), snapshot=LENIENT),
    case("good-token-a-day-later-D07", LATE, mint(), now=T + 86_400),
    case("valid-in-a-second-D08", EARLY, mint(nbf=T + 1)),
    case("valid-from-now-D08", GOOD, mint(nbf=T)),
    case("valid-at-the-leeway-D08", GOOD, mint(nbf=T + 60), snapshot=LENIENT),
    case("valid-beyond-the-leeway-D08", EARLY, mint(nbf=T + 61), snapshot=LENIENT),
    case("issued-in-an-hour-D09", EARLY, mint(iat=T + 3600, exp=T + 7200)),
    case("valid-only-after-it-expires-D09", BAD, mint(nbf=T + 400)),
    case("lifetime-too-long-D09", BAD, mint(exp=T + 3601), snapshot=BOUNDED),
    case("lifetime-of-the-longest-D09", GOOD, mint(exp=T + 3600), snapshot=BOUNDED),
    case("lifetime-without-iat-D09", BAD, mint(iat=ABSENT), snapshot=BOUNDED),
    *cases(
        "D10",
        BAD,
        {
            "two-issuers-the-good-one-last": literal(f'{{"iss":"https://evil.test",{BODY}'),
            "two-issuers-the-good-one-first": literal(f'{{{BODY[:-1]},"iss":"https://evil.test"}}'),
            "two-issuers-by-escape": literal(rf'{{"\u0069ss":"https://evil.test",{BODY}'),
            "two-equal-issuers": literal(f'{{"iss":"{A}",{BODY}'),
            "two-subjects": literal(f'{{"sub":"eve",{BODY}'),
            "two-expiries": literal(f'{{"exp":1,{BODY}'),
            "duplicate-deep-inside": raw(realm_access='{"roles":["a"],"roles":["admin"]}'),
        },
    ),
    case("members-in-other-case-beside-the-right-ones-D11", GOOD, mint(ISS="x", Iss=1, AUD=[], Exp=0, sUB=None)),
    *cases(
        "in-other-case-only-D11",
        BAD,
        {
            "issuer": mint(iss=ABSENT, ISS=A),
            "expiry": mint(exp=ABSENT, Exp=T + 300),
            "subject": mint(sub=ABSENT, SUB="bob"),
        },
    ),
    case("audience-in-other-case-only-D11", OTHERS, mint(aud=ABSENT, AUD="api")),
    *cases(
        "as-iss-D12",
        BAD,
        {
            "list": mint(iss=[A]),
            "object": mint(iss={}),
            "number": mint(iss=1),
            "null": mint(iss=None),
            "empty": mint(iss=""),
        },
    ),
    case("no-iss-D12", BAD, mint(iss=ABSENT)),
    *cases(
        "D12",
        Reason.ISSUER_UNKNOWN,
        {
            "issuer-with-a-slash": mint(iss=f"{A}/"),
            "issuer-in-upper-case": mint(iss=A.upper()),
            "issuer-with-a-port": mint(iss=f"{A}:443"),
            "issuer-with-a-space": mint(iss=f"{A} "),
            "issuer-with-a-prefix": mint(iss=f"{A}.evil.test"),
            "issuer-of-look-alikes": mint(iss=A.replace("a", "а")),
            "issuer-name-of-the-configuration": mint(iss="a"),
        },
    ),
    *[
        case(f"{name}-D15", Reason.TOKEN_BOUND, mint(claims=claims), certificate=certificate)
        for name, claims, certificate in (
            ("dpop-token-as-bearer", {"cnf": {"jkt": "x"}}, CERTIFICATE),
            ("certificate-absent", BOUND, ""),
            ("certificate-of-another", BOUND, pem(b"another")),
            ("certificate-unreadable", BOUND, "junk"),
            ("thumbprint-null-and-certificate-unreadable", {"cnf": {"x5t#S256": None}}, "junk"),
            ("certificate-and-dpop", {"cnf": BOUND["cnf"] | {"jkt": "x"}}, CERTIFICATE),
            ("embedded-key", {"cnf": {"jwk": A_RSA.public()}}, CERTIFICATE),
            ("empty-confirmation", {"cnf": {}}, CERTIFICATE),
        )
    ],
    case("certificate-of-the-peer-D15", GOOD, mint(claims=BOUND), certificate=CERTIFICATE),
    *cases(
        "as-cnf-D15",
        BAD,
        {"null": mint(cnf=None), "text": mint(cnf="x"), "list": mint(cnf=[])},
        certificate=CERTIFICATE,
    ),
    *cases("D16", GOOD, {"audience": mint(aud="api"), "audience-in-a-list": mint(aud=["x", "api"])}),
    *cases(
        "as-aud-D16",
        OTHERS,
        {
            "empty-list": mint(aud=[]),
            "longer-text": mint(aud="apix"),
            "shorter-text": mint(aud="ap"),
            "text-with-a-space": mint(aud="api "),
            "two-words": mint(aud="x api"),
            "other-case": mint(aud="API"),
            "empty-text": mint(aud=""),
        },
    ),
    *cases(
        "as-aud-D16",
        BAD,
        {
            "number": mint(aud=1),
            "object": mint(aud={"api": 1}),
            "mixed-list": mint(aud=["x", 1]),
            "mixed-list-with-ours": mint(aud=["api", 1]),
            "nested-list": mint(aud=[["api"]]),
            "null": mint(aud=None),
            "true": mint(aud=True),
        },
    ),
    case("aud-missing-D17", OTHERS, mint(aud=ABSENT)),
    case("no-audience-configured-D17", OTHERS, mint(), snapshot=make_snapshot(a=issuer_a(audiences=frozenset()))),
    case(
        "id-token-where-access-tokens-are-asked-D18",
        Reason.TYP_NOT_ALLOWED,
        mint(header={"typ": "JWT"}, claims=ID_TOKEN),
        snapshot=ACCESS_ONLY,
    ),
    case(
        "id-token-without-typ-D18",
        Reason.TYP_NOT_ALLOWED,
        mint(header={"typ": ABSENT}, claims=ID_TOKEN),
        snapshot=ACCESS_ONLY,
    ),
    *cases(
        "D18",
        BAD,
        {
            "logout-token-as-jwt": mint(header={"typ": "JWT"}, events=LOGOUT),
            "logout-token-as-access-token": mint(events=LOGOUT),
            "logout-token-without-typ": mint(header={"typ": ABSENT}, events=LOGOUT),
            "logout-token-among-other-events": mint(events=LOGOUT | {"x": {}}),
        },
    ),
    case("logout-token-by-its-own-typ-D18", Reason.CLAIMS_MALFORMED, mint(header={"typ": "logout+jwt"}, events=LOGOUT)),
    *cases(
        "as-payload-D19",
        BAD,
        {
            "null": literal("null"),
            "list": literal("[]"),
            "text": literal('"x"'),
            "number": literal("1"),
            "no-json": literal("iss=https://a.test"),
            "two-objects": literal("{" + BODY + "{}"),
            "byte-order-mark": mint(payload=b"\xef\xbb\xbf{" + BODY.encode()),
            "utf-16": mint(payload=("{" + BODY).encode("utf-16")),
            "utf-16-without-mark": mint(payload=("{" + BODY).encode("utf-16-be")),
            "utf-32": mint(payload=("{" + BODY).encode("utf-32")),
            "deep": raw(other="[" * 5000 + "]" * 5000),
        },
    ),
    case("invalid-utf-8-inside-D19", BAD, mint(payload=json.dumps(CLAIMS).encode().replace(b"bob", b"b\xffb"))),
    case("overlong-utf-8-inside-D19", BAD, mint(payload=json.dumps(CLAIMS).encode().replace(b"bob", b"b\xc0\xafb"))),
    case("lone-surrogate-as-subject-D19", BAD, raw(sub=r'"\ud800"')),
    case("lone-surrogate-as-a-name-D19", BAD, raw(other=r'{"\udfff":1}')),
    case("surrogate-pair-is-a-character-D19", Reason.HEADER_UNSAFE, raw(sub=r'"\ud83d\ude00"')),
]
