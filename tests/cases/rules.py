"""H: rules that fall through, and what a rule's author meant."""

from __future__ import annotations

from typing import Final

from authz.core.keys import Verified
from authz.core.reasons import Reason
from authz.core.snapshot import TokenRules
from authz.core.token import CookieSource
from tests.cases.case import Case, case
from tests.fixtures import A_RSA, ABSENT, issuer_a, key_set, make_snapshot, mint, rule

GOOD: Final = mint()
ALLOWED, DENIED, SCOPE, AUDIENCE = (
    Reason.AUTHENTICATED,
    Reason.POLICY_DENIED,
    Reason.INSUFFICIENT_SCOPE,
    Reason.AUDIENCE_MISMATCH,
)
WRITE: Final = rule("write", "/orders", "/orders/{id}", methods=["POST", "PUT"], scopes=("orders:write",))
GUARDED: Final = make_snapshot(WRITE)
FOLDED: Final = make_snapshot(
    rule("write", "/orders", methods=["POST"], scopes=("orders:write",), case_insensitive=True), rule("rest", "/**")
)
HOSTED: Final = make_snapshot(rule("write", "/orders", hosts=["api.test"], scopes=("orders:write",)))
TWO_AUDIENCES: Final = make_snapshot(
    rule("orders", "/orders", audiences=frozenset({"orders"})),
    rule("rest", "/**"),
    a=issuer_a(audiences=frozenset({"orders", "billing"})),
)
KEYS: Final = key_set(A_RSA)
THUMBPRINT: Final = A_RSA.jwk.thumbprint()
COOKIE: Final = make_snapshot(token=TokenRules(sources=(CookieSource("t"),)))


def by_cookie(name: str, reason: Reason, method: str = "POST", **headers: str) -> Case:
    """Write a row with a good token in a cookie; `_` in the name of a header stands for `-`."""
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    carried = {"cookie": f"t={GOOD}", **named}
    return case(f"{name}-H05", reason, snapshot=COOKIE, method=method, scheme="https", headers=carried)


CASES: Final = [
    case("post-without-the-scope-H01", SCOPE, GOOD, method="POST", path="/orders", snapshot=GUARDED),
    case("trailing-slash-H01", SCOPE, GOOD, method="POST", path="/orders/", snapshot=GUARDED),
    case("trailing-slash-behind-a-parameter-H01", SCOPE, GOOD, method="PUT", path="/orders/5/", snapshot=GUARDED),
    case("query-H01", SCOPE, GOOD, method="POST", path="/orders?x=1", snapshot=GUARDED),
    case("encoded-letter-H01", SCOPE, GOOD, method="POST", path="/%6Frders", snapshot=GUARDED),
    case("with-the-scope-H01", ALLOWED, mint(scope="orders:write"), method="POST", path="/orders/", snapshot=GUARDED),
    case("other-case-without-a-weaker-rule-H01", DENIED, GOOD, method="POST", path="/Orders", snapshot=GUARDED),
    case("other-method-without-a-weaker-rule-H01", DENIED, GOOD, method="PATCH", path="/orders/5", snapshot=GUARDED),
    case("other-case-where-case-is-ignored-H01", SCOPE, GOOD, method="POST", path="/ORDERS/", snapshot=FOLDED),
    case("other-host-without-a-weaker-rule-H01", DENIED, GOOD, host="www.test", path="/orders", snapshot=HOSTED),
    case("host-in-any-spelling-H01", SCOPE, GOOD, host="API.test.:443", path="/orders", snapshot=HOSTED),
    case("audience-of-the-rule-H02", ALLOWED, mint(aud="orders"), path="/orders", snapshot=TWO_AUDIENCES),
    case("audience-of-another-rule-H02", AUDIENCE, mint(aud="billing"), path="/orders", snapshot=TWO_AUDIENCES),
    case("both-audiences-H02", ALLOWED, mint(aud=["billing", "orders"]), path="/orders", snapshot=TWO_AUDIENCES),
    case("audience-of-another-rule-elsewhere-H02", ALLOWED, mint(aud="billing"), path="/x", snapshot=TWO_AUDIENCES),
    case("claims-named-like-ours-H03", ALLOWED, mint(decision="allow", reason="public", rule="public", issuer="b")),
    *[
        case(
            f"blocked-by-{name}{'-and-remembered' if verify else ''}-H04",
            Reason.KEY_UNUSABLE,
            token,
            snapshot=make_snapshot(a=issuer_a(keys=KEYS.block([blocked])), **verify),
        )
        for verify in ({}, {"verify_signature": lambda _issuer, _key, _token: Verified.CACHED})
        for name, blocked, token in (
            ("kid", "a-rsa", GOOD),
            ("thumbprint", THUMBPRINT, GOOD),
            ("kid-for-a-token-without-one", "a-rsa", mint(header={"kid": ABSENT})),
        )
    ],
    by_cookie("cookie-and-nothing-else", DENIED),
    by_cookie("cookie-and-foreign-origin", DENIED, origin="https://evil.test"),
    by_cookie("cookie-and-null-origin", DENIED, origin="null"),
    by_cookie("cookie-and-cross-site", DENIED, sec_fetch_site="cross-site"),
    by_cookie("cookie-and-same-site", DENIED, sec_fetch_site="same-site"),
    by_cookie("cookie-own-origin-and-cross-site", DENIED, origin="https://api.test", sec_fetch_site="cross-site"),
    by_cookie(
        "cookie-foreign-origin-and-same-origin", DENIED, origin="https://evil.test", sec_fetch_site="same-origin"
    ),
    by_cookie("cookie-and-own-origin", ALLOWED, origin="https://api.test"),
    by_cookie("cookie-and-same-origin", ALLOWED, sec_fetch_site="same-origin"),
    by_cookie("cookie-and-get", ALLOWED, "GET"),
    by_cookie("websocket-by-cookie", DENIED, "GET", upgrade="websocket"),
    by_cookie("websocket-by-cookie-from-its-own-site", ALLOWED, "GET", upgrade="websocket", origin="https://api.test"),
]
