"""F: paths, hosts, methods and headers, and what an upstream gets to see."""

from __future__ import annotations

from typing import Any, Final

from authz.core.identity import Identity, UnsafeValues
from authz.core.policy import AccessMode
from authz.core.reasons import Reason
from authz.core.request import MAX_HEADERS, AmbiguousEncoding, Request
from tests.cases.case import Case, case
from tests.fixtures import DEFAULT_SNAPSHOT, RULES, T, header, make_snapshot, mint, rule

GOOD: Final = mint()
ALLOWED, PUBLIC, DENIED, AMBIGUOUS, MALFORMED, UNSAFE, MISSING = (
    Reason.AUTHENTICATED,
    Reason.PUBLIC,
    Reason.POLICY_DENIED,
    Reason.PATH_AMBIGUOUS,
    Reason.REQUEST_MALFORMED,
    Reason.HEADER_UNSAFE,
    Reason.TOKEN_MISSING,
)
STAFF: Final = mint(groups=["staff"])
FORGED: Final = {"x-user-id": "admin", "x_user_id": "admin", "x-user_id": "admin", "x-user-groups": "admin"}
ENCODING: Final = make_snapshot(identity=Identity((header("x-user-id", "sub"),), unsafe_values=UnsafeValues.ENCODE))
JOINING: Final = make_snapshot(identity=Identity((header("x-c", "c", join=","), header("x-t", "c2"))))
HOST: Final = make_snapshot(rule("api", "/**", hosts=["api.example.test"]))
METHOD: Final = make_snapshot(rule("read", "/items/**", methods=["GET"], allow=AccessMode.PUBLIC))
SLASHES: Final = make_snapshot(
    rule("files", "/files/{name}", accept=frozenset({AmbiguousEncoding.ENCODED_SLASH})), *RULES
)
CONTEXT: Final = make_snapshot(rule("inside", "/**", context={"zone": "admin"}, allow=AccessMode.PUBLIC), *RULES)
ELSEWHERE: Final = {
    "x-forwarded-uri": "/public",
    "x-original-url": "/public",
    "x-rewrite-url": "/public",
    "x-envoy-original-path": "/public",
    "x-forwarded-prefix": "/public",
    "x-http-method-override": "OPTIONS",
    "x-forwarded-host": "public.test",
    ":path": "/public",
    ":authority": "public.test",
}


def paths(reason: Reason, ids: dict[str, str], token: str | None = None, **others: Any) -> list[Case]:  # noqa: ANN401
    """Write a row for each path."""
    return [case(name, reason, token, path=path, **others) for name, path in ids.items()]


CASES: Final = [
    case(
        "client-writes-identity-F01",
        ALLOWED,
        GOOD,
        headers=FORGED,
        sees={"x-user-id": "bob", "x-user-groups": "admin,staff"},
    ),
    case(
        "client-writes-identity-that-is-missing-F01",
        ALLOWED,
        mint(sub="bob", groups=[]),
        headers=FORGED,
        sees={"x-user-id": "bob"},
    ),
    case("client-writes-identity-to-a-public-path-F05", PUBLIC, path="/public/1", headers=FORGED, sees={}),
    case("client-writes-identity-without-a-token-F05", Reason.ANONYMOUS, path="/mixed/1", headers=FORGED, sees={}),
    case("client-has-identity-dropped-F01", MALFORMED, GOOD, headers={"connection": "upgrade, X-User-Id"}),
    *[
        case(f"{name}-in-the-subject-F06", UNSAFE, mint(sub=subject))
        for name, subject in {
            "carriage-return-and-line-feed": "bob\r\nx-user-groups: admin",
            "line-feed": "bob\n",
            "carriage-return": "bob\r",
            "nul": "bob\0",
            "delete": "bob\x7f",
            "tab": "bob\tadmin",
            "escape": "\x1b[2J",
            "next-line": "bob\x85",
            "line-separator": "bob\u2028",
            "umlaut": "Zoë",
            "emoji": "😀",
            "space-before": " bob",
            "space-behind": "bob ",
        }.items()
    ],
    *[
        case(f"{name}-encoded-F07", ALLOWED, mint(sub=subject), snapshot=ENCODING, sees={"x-user-id": encoded})
        for name, (subject, encoded) in {
            "combining-mark-and-han": ("Zoe\u0308 \u6f22", "Zoe%CC%88 %E6%BC%A2"),
            "emoji": ("😀", "%F0%9F%98%80"),
            "line-feed": ("a\r\nb", "a%0D%0Ab"),
            "nul": ("\0", "%00"),
            "percent": ("100%", "100%25"),
            "escape": ("%0A", "%250A"),
            "spaces-at-both-ends": (" a b ", "%20a b%20"),
            "right-to-left": ("\u202eabc", "%E2%80%AEabc"),
            "markup": ("<script>alert('1')</script>", "<script>alert('1')</script>"),
            "quotes": ('"\\', '"\\'),
        }.items()
    ],
    *[
        case(
            f"{name}-as-a-claim-F08", ALLOWED, mint(c=value), snapshot=JOINING, sees={"x-c": written} if written else {}
        )
        for name, (value, written) in {
            "list": (["a", "b"], "a,b"),
            "list-of-scalars": (["a", 1, True, 1.5], "a,1,true,1.5"),
            "empty-list": ([], ""),
            "number": (7, "7"),
            "fraction": (0.1, "0.1"),
            "truth": (True, "true"),
            "null": (None, ""),
            "empty-text": ("", ""),
            "text": ("x", "x"),
        }.items()
    ],
    case("missing-claim-F08", ALLOWED, GOOD, snapshot=JOINING, sees={}),
    *[
        case(f"{name}-as-a-claim-F08", UNSAFE, mint(c=value), snapshot=JOINING)
        for name, value in {
            "object": {"a": 1},
            "list-of-lists": [["a"]],
            "list-of-objects": [{}],
            "list-with-null": [None],
            "list-with-an-empty-text": ["a", ""],
            "list-with-a-comma": ["a,admin"],
            "list-with-a-line-feed": ["a\n"],
            "far-too-long": "x" * 9000,
            "far-too-many": ["xxxxxxx"] * 1100,
        }.items()
    ],
    case("list-without-a-form-F08", UNSAFE, mint(c2=["a"]), snapshot=JOINING),
    *paths(
        AMBIGUOUS,
        {
            "dots-behind-a-public-path-F10": "/public/../admin",
            "dots-at-the-end-F10": "/public/..",
            "one-dot-F10": "/public/./x",
            "encoded-dots-F10": "/public/%2e%2e/admin",
            "half-encoded-dots-F10": "/public/.%2e/admin",
            "double-encoded-dots-F10": "/public/%252e%252e/admin",
            "double-slash-F10": "//admin",
            "double-slash-behind-a-public-path-F10": "/public//../admin",
            "double-slash-inside-F10": "/public//admin",
            "encoded-slashes-F10": "/public%2f..%2fadmin",
            "encoded-slash-F10": "/public%2fadmin",
            "backslashes-F10": "/public\\..\\admin",
            "encoded-backslashes-F10": "/public%5c..%5cadmin",
            "dots-with-a-parameter-F10": "/public/..;/admin",
            "dots-with-a-longer-parameter-F10": "/public/..;v=1/admin",
            "dots-with-an-encoded-parameter-F10": "/public/..%3B/admin",
            "dots-with-a-space-F10": "/public/..%20/admin",
            "parameter-F10": "/public;x/admin",
            "nul-F10": "/public%00/../admin",
            "line-feed-F10": "/public%0a",
            "overlong-dots-F10": "/public/%c0%ae%c0%ae/admin",
            "unicode-escape-F10": "/public/%u002e%u002e/admin",
            "broken-escape-F10": "/public/%zz",
            "fullwidth-dots-F10": "/public/．．/admin",
            "space-F10": "/public /admin",
            "fragment-F12": "/admin#/public",
            "fragment-behind-a-public-path-F12": "/public#/../admin",
            "absolute-form-F12": "http://h/admin",
            "absolute-form-of-a-public-path-F12": "http://h/public",
            "encoded-question-mark-and-dots-F12": "/public%3f/../admin",
            "no-slash-F12": "public",
            "asterisk-F12": "*",
        },
    ),
    *paths(MISSING, {"encoded-letter-F10": "/%61dmin", "all-letters-encoded-F10": "/%61%64%6d%69%6e"}),
    *paths(DENIED, {"encoded-letter-without-the-group-F10": "/%61dmin", "plain-F10": "/admin"}, STAFF),
    *paths(DENIED, {"other-case-F10": "/Admin", "longer-name-F10": "/publicity", "shorter-name-F10": "/publi"}),
    *paths(
        PUBLIC, {"encoded-letter-of-a-public-path-F10": "/%70ublic/x", "escape-that-is-data-F10": "/public/%3f%23%25"}
    ),
    *paths(
        MISSING,
        {
            "public-path-in-the-query-F12": "/admin?x=/public",
            "dots-in-the-query-F12": "/admin?/public/..",
            "two-question-marks-F12": "/admin?a?/public",
            "fragment-in-the-query-F12": "/admin?x#/public",
            "odd-spellings-in-the-query-F12": "/admin?//%2f;..\\",
        },
    ),
    *paths(PUBLIC, {"encoded-question-mark-F12": "/public/%3f/x", "protected-path-in-the-query-F12": "/public?/admin"}),
    *[
        case(f"{name.strip(':')}-says-otherwise-F14", MISSING, path="/admin", headers={name: value})
        for name, value in ELSEWHERE.items()
    ],
    case("all-headers-say-otherwise-F14", DENIED, STAFF, path="/admin", headers=ELSEWHERE),
    case("preflight-without-a-token-F15", MISSING, method="OPTIONS", headers={"access-control-request-method": "GET"}),
    case("method-of-the-rule-F15", PUBLIC, method="GET", snapshot=METHOD),
    *[
        case(f"method-{method.lower()}-F15", DENIED, method=method, snapshot=METHOD)
        for method in ("HEAD", "PROPFIND", "GETT")
    ],
    case("method-in-lower-case-that-nobody-registered-F15", DENIED, method="gett", snapshot=METHOD),
    *[case(f"method-{method}-F15", MALFORMED, method=method, snapshot=METHOD) for method in ("get", "Delete")],
    *[
        case(f"method-{name}-F15", MALFORMED, method=method, snapshot=METHOD)
        for name, method in {"with-a-space": "GET ", "empty": "", "two": "GET,GET", "with-a-line-feed": "GET\n"}.items()
    ],
    case("host-in-any-case-with-a-dot-F16", ALLOWED, GOOD, host="API.Example.test.", snapshot=HOST),
    case("host-with-a-port-F16", ALLOWED, GOOD, host="api.example.test:443", snapshot=HOST),
    case("host-with-any-port-F16", ALLOWED, GOOD, host="api.example.test:8443", snapshot=HOST),
    *[
        case(f"host-{name}-F16", MALFORMED, GOOD, host=host, snapshot=HOST)
        for name, host in {
            "with-a-user": "a@api.example.test",
            "list": "api.example.test,evil.test",
            "list-with-a-space": "api.example.test evil.test",
            "with-a-path": "api.example.test/evil",
            "with-an-escape": "api%2eexample.test",
            "with-a-nul": "api.example.test\0.evil.test",
            "with-a-query": "api.example.test?evil",
            "of-look-alikes": "аpi.example.test",
            "empty-label": "api..example.test",
        }.items()
    ],
    case("host-that-nobody-names-F16", DENIED, GOOD, host="", snapshot=HOST),
    case("host-of-another-F16", DENIED, GOOD, host="evil.test", snapshot=HOST),
    case("host-above-F16", DENIED, GOOD, host="example.test", snapshot=HOST),
    case("host-below-F16", DENIED, GOOD, host="x.api.example.test", snapshot=HOST),
    Case(name="nothing-at-all-F17", reason=MALFORMED, request=Request(), snapshot=DEFAULT_SNAPSHOT, now=T, sees=None),
    case("no-path-F17", MALFORMED, GOOD, method="CONNECT", path=""),
    case("ten-thousand-headers-F17", MALFORMED, GOOD, headers={f"x-{n}": "" for n in range(10_000)}),
    case("one-header-too-many-F17", MALFORMED, GOOD, headers={f"x-{n}": "" for n in range(MAX_HEADERS)}),
    case("as-many-headers-as-may-be-F17", ALLOWED, GOOD, headers={f"x-{n}": "" for n in range(MAX_HEADERS - 1)}),
    case("header-without-a-name-F17", MALFORMED, GOOD, headers={"": "x"}),
    case("path-far-too-long-F17", MALFORMED, GOOD, path="/items/" + "x" * 20_000),
    case("kubernetes-probe-F18", MISSING, headers={"user-agent": "kube-probe/1.0"}, path="/items/healthz"),
    case("health-path-without-a-rule-F18", DENIED, path="/healthz"),
    case(
        "header-named-like-the-context-F18",
        MISSING,
        headers={"context_extensions": "zone=admin", "zone": "admin"},
        snapshot=CONTEXT,
    ),
    case(
        "header-named-like-a-namespace-F18", MISSING, headers={"envoy.filters.http.ext_authz": "{}"}, snapshot=CONTEXT
    ),
    case("context-of-the-operator-F18", PUBLIC, context={"zone": "admin"}, snapshot=CONTEXT),
    case("accepted-slash-is-data", ALLOWED, GOOD, path="/files/a%2Fb", snapshot=SLASHES),
    case("accepted-slash-with-dots", AMBIGUOUS, GOOD, path="/files/..%2Fadmin", snapshot=SLASHES),
    case("slash-accepted-elsewhere", AMBIGUOUS, GOOD, path="/items/a%2Fb", snapshot=SLASHES),
    case("other-spelling-than-accepted", AMBIGUOUS, GOOD, path="/files/a;b", snapshot=SLASHES),
]
