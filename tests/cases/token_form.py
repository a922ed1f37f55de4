"""A: where a token stands, and what it looks like."""

from __future__ import annotations

import json
from typing import Final

from authz.core.reasons import Reason
from authz.core.snapshot import TokenRules
from authz.core.token import MAX_TOKEN_BYTES, CookieSource, HeaderSource, QuerySource
from tests.cases.case import Case, case, cases
from tests.fixtures import B_EC, B, T, make_snapshot, mint

GOOD: Final = mint()
ANOTHER: Final = mint(sub="eve")
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
FLATTENED: Final = {"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE}
MALFORMED, MISSING, MULTIPLE = Reason.TOKEN_MALFORMED, Reason.TOKEN_MISSING, Reason.TOKEN_MULTIPLE
EVERYWHERE: Final = make_snapshot(
    token=TokenRules(sources=(HeaderSource("authorization", "Bearer"), CookieSource("t"), QuerySource("t")))
)


def authorization(name: str, reason: Reason, value: str) -> Case:
    """Write a row with an Authorization header as it stands."""
    return case(name, reason, headers={"authorization": value})


CASES: Final = [
    case("good-token", Reason.AUTHENTICATED, GOOD, sees={"x-user-id": "bob", "x-user-groups": "admin,staff"}),
    case("good-token-of-another-issuer", Reason.AUTHENTICATED, mint(B_EC, iss=B)),
    case("no-authorization-A01", MISSING),
    authorization("empty-authorization-A01", MISSING, ""),
    authorization("two-tokens-merged-by-envoy-A02", MULTIPLE, f"Bearer {GOOD},Bearer {ANOTHER}"),
    authorization("two-tokens-with-a-space-A02", MULTIPLE, f"Bearer {GOOD}, Bearer {ANOTHER}"),
    authorization("the-same-token-twice-A02", MULTIPLE, f"Bearer {GOOD},Bearer {GOOD}"),
    authorization("good-token-after-a-bad-one-A02", MULTIPLE, f"Bearer x,Bearer {GOOD}"),
    authorization("bad-token-after-a-good-one-A02", MULTIPLE, f"Bearer {GOOD},bearer x"),
    authorization("token-after-basic-A02", MULTIPLE, f"Basic eDp5, Bearer {GOOD}"),
    authorization("token-before-basic-A02", MULTIPLE, f"Bearer {GOOD}, Basic eDp5"),
    authorization("two-tokens-behind-one-scheme-A02", MALFORMED, f"Bearer {GOOD},{ANOTHER}"),
    authorization("two-tokens-and-a-space-behind-one-scheme-A02", MALFORMED, f"Bearer {GOOD}, {ANOTHER}"),
    authorization("scheme-in-any-case-A03", Reason.AUTHENTICATED, f"bEaReR {GOOD}"),
    authorization("several-spaces-A03", Reason.AUTHENTICATED, f"Bearer   {GOOD}"),
    authorization("tab-for-a-space-A03", MALFORMED, f"Bearer\t{GOOD}"),
    authorization("tab-after-the-space-A03", MALFORMED, f"Bearer \t{GOOD}"),
    authorization("no-break-space-A03", MALFORMED, f"Bearer\u00a0{GOOD}"),
    authorization("form-feed-A03", MALFORMED, f"Bearer\f{GOOD}"),
    authorization("colon-for-a-space-A03", MALFORMED, f"Bearer:{GOOD}"),
    authorization("equals-sign-for-a-space-A03", MALFORMED, f"Bearer={GOOD}"),
    authorization("scheme-alone-A04", MALFORMED, "Bearer"),
    authorization("scheme-and-a-space-A04", MALFORMED, "Bearer "),
    authorization("other-scheme-A04", MISSING, "Basic x"),
    authorization("other-scheme-with-a-good-token-A04", MISSING, f"DPoP {GOOD}"),
    authorization("longer-scheme-A04", MISSING, f"BearerToken {GOOD}"),
    authorization("no-scheme-A04", MISSING, GOOD),
    authorization("scheme-of-look-alikes-A04", MISSING, f"Вearer {GOOD}"),
    authorization("something-behind-the-token-A04", MALFORMED, f"Bearer {GOOD} extra"),
    authorization("token-in-quotes-A04", MALFORMED, f'Bearer "{GOOD}"'),
    authorization("token-as-a-parameter-A04", MALFORMED, f"Bearer token={GOOD}"),
    case("newline-behind-the-token-A05", MALFORMED, f"{GOOD}\n"),
    case("carriage-return-behind-the-token-A05", MALFORMED, f"{GOOD}\r\n"),
    case("encoded-newline-behind-the-token-A05", MALFORMED, f"{GOOD}%0a"),
    case("zero-width-space-behind-the-token-A05", MALFORMED, f"{GOOD}\u200b"),
    case("nul-behind-the-token-A05", MALFORMED, f"{GOOD}\0"),
    case("space-behind-the-token-A05", MALFORMED, f"{GOOD} "),
    case("byte-order-mark-before-the-token-A05", MALFORMED, f"\ufeff{GOOD}"),
    case("fullwidth-letter-in-the-token-A05", MALFORMED, GOOD.replace("e", "\uff45", 1)),
    case("surrogate-in-the-token-A05", MALFORMED, f"{GOOD}\ud800"),
    case("padding-on-the-signature-A06", MALFORMED, f"{GOOD}=="),
    case("one-padding-character-A06", MALFORMED, f"{GOOD}="),
    case("padding-on-the-header-A06", MALFORMED, f"{HEADER}==.{PAYLOAD}.{SIGNATURE}"),
    case("padding-on-the-payload-A06", MALFORMED, f"{HEADER}.{PAYLOAD}=.{SIGNATURE}"),
    case("encoded-padding-A06", MALFORMED, f"{GOOD}%3D%3D"),
    case("junk-inside-the-signature-A07", MALFORMED, f"{GOOD[:-8]}!!!!{GOOD[-8:]}"),
    case("junk-inside-the-header-A07", MALFORMED, f"{GOOD[:8]}!!!!{GOOD[8:]}"),
    case("newline-inside-the-signature-A07", MALFORMED, f"{GOOD[:-8]}\n{GOOD[-8:]}"),
    case("space-inside-the-payload-A07", MALFORMED, f"{HEADER}.{PAYLOAD[:8]} {PAYLOAD[8:]}.{SIGNATURE}"),
    case("alphabet-of-plain-base64-A07", MALFORMED, f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-4]}+/+/"),
    case(
        "unused-bits-of-the-signature-A07", MALFORMED, mint()[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}[GOOD[-1]]
    ),
    *cases(
        "A12",
        MALFORMED,
        {
            "two-segments": "a.b",
            "two-good-segments": f"{HEADER}.{PAYLOAD}",
            "four-segments": "a.b.c.d",
            "good-token-and-one-more": f"{GOOD}.{SIGNATURE}",
            "good-token-and-a-dot": f"{GOOD}.",
            "dot-and-a-good-token": f".{GOOD}",
            "dots-alone": "..",
            "only-a-payload": ".b.",
            "no-payload": "a..c",
            "detached-payload": f"{HEADER}..{SIGNATURE}",
            "empty-third-segment": f"{HEADER}.{PAYLOAD}.",
            "empty-first-segment": f".{PAYLOAD}.{SIGNATURE}",
            "one-segment": "a",
            "text": "undefined",
        },
    ),
    *cases(
        "A13",
        MALFORMED,
        {
            "flattened-json": json.dumps(FLATTENED),
            "flattened-json-without-spaces": json.dumps(FLATTENED, separators=(",", ":")),
            "flattened-json-with-an-unprotected-header": json.dumps(FLATTENED | {"header": {"alg": "none"}}),
            "general-json": json.dumps(
                {"payload": PAYLOAD, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]}
            ),
            "json-inside-a-segment": f'{HEADER}.{PAYLOAD}.{{"signature":"{SIGNATURE}"}}',
        },
    ),
    *cases(
        "A14",
        Reason.TOKEN_TOO_LARGE,
        {
            "one-byte-over-the-limit": GOOD + "A" * (MAX_TOKEN_BYTES + 1 - len(GOOD)),
            "four-megabytes": GOOD + "A" * 4_000_000,
            "four-megabytes-of-dots": "." * 4_000_000,
            "good-token-over-the-limit": mint(padding="x" * MAX_TOKEN_BYTES),
        },
    ),
    case("as-large-as-the-limit-A14", MALFORMED, "." * MAX_TOKEN_BYTES),
    case("large-but-good-A14", Reason.AUTHENTICATED, mint(padding="x" * (MAX_TOKEN_BYTES // 2))),
    case("token-in-the-query-A16", MISSING, path=f"/items/1?access_token={GOOD}"),
    case("token-in-a-cookie-A16", MISSING, headers={"cookie": f"access_token={GOOD}"}),
    case("token-in-proxy-authorization-A16", MISSING, headers={"proxy-authorization": f"Bearer {GOOD}"}),
    case("token-in-a-spelling-of-authorization-A16", MISSING, headers={"authorization_": f"Bearer {GOOD}"}),
    case("token-in-a-forwarded-header-A16", MISSING, headers={"x-forwarded-access-token": GOOD}),
    case("token-in-the-context-A16", MISSING, context={"authorization": f"Bearer {GOOD}"}),
    case("header-and-cookie-A16", MULTIPLE, GOOD, snapshot=EVERYWHERE, headers={"cookie": f"t={GOOD}"}),
    case("header-and-query-A16", MULTIPLE, GOOD, snapshot=EVERYWHERE, path=f"/items/1?t={ANOTHER}"),
    case("cookie-and-query-A16", MULTIPLE, snapshot=EVERYWHERE, path="/items/1?t=x", headers={"cookie": f"t={GOOD}"}),
    case("cookie-twice-A16", MULTIPLE, snapshot=EVERYWHERE, headers={"cookie": f"t={GOOD}; t={ANOTHER}"}),
    case(
        "cookie-where-it-is-a-source", Reason.AUTHENTICATED, snapshot=EVERYWHERE, headers={"cookie": f"a=1; t={GOOD}"}
    ),
    case("query-where-it-is-a-source", Reason.AUTHENTICATED, snapshot=EVERYWHERE, path=f"/items/1?a=1&t={GOOD}"),
    case("token-that-is-good-a-moment-later", Reason.TOKEN_NOT_YET_VALID, mint(nbf=T + 1)),
]
