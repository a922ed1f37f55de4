"""J: each cause that REASONS lists for a reason of the claims or of the rule, by the words of the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from authz.core.claims import ClaimPath
from authz.core.identity import Identity, MetadataClaim
from authz.core.policy import AccessMode
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.requirements import NoResultError, Requirements
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.token import CookieSource
from tests.cases import revocation, status_list
from tests.cases.case import Case, case
from tests.cases.claim_sets import BOUND, LOGOUT, literal, pem, raw
from tests.cases.exchange import OTHER_ISSUER_CAUSES
from tests.cases.external import GOOD, STEP_UP, question
from tests.cases.external import ruled as asking
from tests.cases.external import said as answered
from tests.cases.introspection import OPAQUE, said, world
from tests.cases.minting import LEEWAY_CAUSES, SIZE_CAUSES, SUBJECT_CAUSES, UNAVAILABLE_CAUSES
from tests.cases.proofs import BOUND_CAUSES, NONCE_CAUSES, PROOF_CAUSES
from tests.cases.throttle import ELSEWHERE, OFFICE, risky
from tests.fixtures import ABSENT, DEFAULT_SNAPSHOT, A, B, T, claim, header, issuer_a, make_snapshot, mint, rule

BOUNDED: Final = make_snapshot(a=issuer_a(max_lifetime=60))
ANY_SUB: Final = issuer_a(required=("exp",))
DOMAIN: Final = "spiffe://example.org"
OF_DOMAIN: Final = make_snapshot(issuers={DOMAIN: issuer_a(issuer=DOMAIN)})
COOKIES: Final = make_snapshot(token=TokenRules(sources=(CookieSource("t"),)))
MFA: Final = ("mfa",)
ASKING: Final = asking(question())


STRANGE: Final = {"source_address": OFFICE, "facts": ELSEWHERE}


class _Says:
    """A condition that does not hold, or has no answer."""

    def __init__(self, error: str = "") -> None:
        self._error = error

    def holds(self, request: Request, params: object, claims: object) -> bool:
        if self._error:
            raise NoResultError(self._error)
        return False


def ruled(**wanted: Any) -> Snapshot:  # noqa: ANN401 - requirements are of several types
    """Ask for something in the only rule."""
    return make_snapshot(rule("r", "/**", **wanted))


def tells(*headers: Any, **others: Any) -> Snapshot:  # noqa: ANN401 - the same
    """Tell the upstream something; `sub` is not required."""
    return make_snapshot(rule("r", "/**"), a=ANY_SUB, identity=Identity(headers, **others))


EDITORS: Final = ruled(claims=(claim("groups", "editor"),))
BOTH: Final = ruled(claims=(claim("groups", "editor", "auditor", every=True),))
PEOPLE: Final = [{"id": 1, "name": "editor"}] * 3
OVERAGE: Final = {
    "groups": ABSENT,
    "_claim_names": {"groups": "src1"},
    "_claim_sources": {"src1": {"endpoint": "https://graph.test"}},
}

CAUSES: Final[Mapping[Reason, Mapping[str, Mapping[str, tuple[Any, ...]]]]] = {
    Reason.TOKEN_REVOKED: {**revocation.REVOKED_CAUSES, **status_list.REVOKED_CAUSES},
    Reason.REVOCATIONS_UNAVAILABLE: {**revocation.UNAVAILABLE_CAUSES, **status_list.UNAVAILABLE_CAUSES},
    Reason.CLAIMS_MALFORMED: {
        "transaction tokens need one": SUBJECT_CAUSES,
        **status_list.MALFORMED_CAUSES,
        "not one JSON object with unique members": {
            "a-list": (literal("[]"), None),
            "not-utf-8": (mint(payload=b'{"iss":"\xff"}'), None),
            "two-subjects": (raw(other='{"a":1,"a":2}'), None),
            "infinite": (raw(exp="Infinity"), None),
        },
        "no issuer, so no key": {
            "no-iss": (mint(iss=ABSENT), None),
            "iss-a-number": (mint(iss=1), None),
        },
        "absent, null or empty": {
            "sub-absent": (mint(sub=ABSENT), None),
            "sub-null": (mint(sub=None), None),
            "sub-empty": (mint(sub=""), None),
            "tenant-absent": (mint(), make_snapshot(a=issuer_a(required=("exp", "tenant")))),
            "exp-absent": (mint(exp=ABSENT), make_snapshot(a=issuer_a(required=()))),
        },
        "not text, and something needs it": {
            "sub-a-number-required": (mint(sub=17), None),
            "sub-a-number-for-a-rule": (
                mint(sub=17),
                make_snapshot(rule("r", "/**", claims=(claim("sub", 17),)), a=ANY_SUB),
            ),
            "sub-a-number-for-a-header": (mint(sub=17), tells(header("x-user", "sub"))),
            "sub-a-number-for-the-metadata": (
                mint(sub=17),
                tells(metadata=(MetadataClaim("sub", ClaimPath(("sub",))),)),
            ),
            "sub-a-number-by-another-name": (
                mint(sub=17),
                make_snapshot(
                    rule("r", "/**"),
                    a=issuer_a(required=("exp",), aliases={"user": ClaimPath(("sub",))}),
                    identity=Identity((header("x-user", "user"),)),
                ),
            ),
        },
        "another trust domain, or no workload": {
            "sub-no-spiffe-id": (mint(iss=DOMAIN), OF_DOMAIN),
            "sub-of-another-domain": (mint(iss=DOMAIN, sub="spiffe://example.net/x"), OF_DOMAIN),
        },
        "not text": {"jti-a-number": (mint(jti=1), None)},
        "text, bool, null or negative": {
            f"{name}-{kind}": (mint(claims={name: value}), None)
            for name in ("exp", "nbf", "iat")
            for kind, value in (("text", str(T)), ("bool", True), ("null", None), ("negative", -1))
            if (name, value) != ("exp", None)  # which is missing
        },
        "milliseconds or finer": {
            f"{name}-in-{unit}": (
                mint(claims={name: (T - 5) * factor}),
                ruled(max_age=60) if name == "auth_time" else None,
            )
            for name in ("exp", "nbf", "iat", "auth_time")
            for unit, factor in (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
        },
        "another form": {"aud-a-number": (mint(aud=1), None)},
        "never valid": {"nbf-after-exp": (mint(nbf=T + 400), None)},
        "`max_lifetime`": {
            "life": (mint(), BOUNDED),
            "no-iat": (mint(iat=ABSENT), BOUNDED),
            "no-exp": (mint(exp=ABSENT), make_snapshot(a=issuer_a(max_lifetime=60, no_expiry=True, required=()))),
        },
        "not an access token": {"logout": (mint(events=LOGOUT), None)},
        "not as RFC 7800": {"cnf-a-text": (mint(cnf="x"), None)},
    },
    Reason.ISSUER_UNKNOWN: {
        "another environment or tenant": {"other-issuer": (mint(iss="https://other.test"), None)},
        "compared byte for byte": {"slash": (mint(iss=f"{A}/"), None)},
        "introspection names another": {
            "answer-of-another": (OPAQUE, world(), {"facts": said(iss=B)}),
        },
    },
    Reason.TOKEN_EXPIRED: {
        "an old token, or a wrong clock": {"old": (mint(exp=T - 1), None)},
        "it has ended, but for `leeway`": LEEWAY_CAUSES,
    },
    Reason.TOKEN_NOT_YET_VALID: {
        "the issuer's clock, or ours": {
            "nbf-ahead": (mint(nbf=T + 9), None),
            "iat-ahead": (mint(iat=T + 9), None),
        },
    },
    Reason.AUDIENCE_MISMATCH: {
        "for another API (`audience` in the log)": {
            "other-aud": (mint(aud="other"), None),
            "empty-aud": (mint(aud=[]), None),
        },
        "none requested, or elsewhere": {
            "aud-absent": (mint(aud=ABSENT), None),
            "client-id-absent": (mint(), make_snapshot(a=issuer_a(audience_claim="client_id"))),
        },
        "only the rule's is wrong": {"rule": (mint(), ruled(audiences=frozenset({"x"})))},
    },
    Reason.TOKEN_BOUND: {
        "none, another, or Envoy does not send it": {
            "no-certificate": (mint(claims=BOUND), None),
            "another": (mint(claims=BOUND), None, {"certificate": pem(b"another")}),
        },
        "neither a key nor a certificate": {"cnf-jwk": (mint(cnf={"jwk": {}}), None)},
        **BOUND_CAUSES,
    },
    Reason.PROOF_INVALID: PROOF_CAUSES,
    Reason.NONCE_REQUIRED: NONCE_CAUSES,
    Reason.POLICY_DENIED: {
        "method, host or path of no rule; `HEAD` is not `GET`": {
            "no-rule": (mint(), make_snapshot(rule("r", "/elsewhere")))
        },
        "`allow: deny`": {"nobody": (mint(), make_snapshot(rule("r", "/**", allow=AccessMode.DENY)))},
        "`identity.token.exchange.subjects` lists others": OTHER_ISSUER_CAUSES,
        "`require.issuers` lists others": {"issuer": (mint(), ruled(issuers=frozenset({"b"})))},
        "the claim is absent or null": {
            "groups-absent": (mint(groups=ABSENT), EDITORS),
            "groups-null": (mint(groups=None), BOTH),
            "groups-below-a-text": (mint(realm="x"), ruled(claims=(claim("realm.groups", "editor"),))),
        },
        "more groups than the token holds (Entra: 200)": {
            "claim-names": (mint(claims=OVERAGE), EDITORS),
            "hasgroups": (mint(groups=ABSENT, hasgroups=True), EDITORS),
            "distributed": (mint(claims={"_claim_names": {"address": "src1"}}), ruled(claims=(claim("address", "x"),))),
        },
        "another type, as a list of objects": {
            "groups-of-objects": (mint(groups=PEOPLE), make_snapshot(*EDITORS.policy.rules, identity=Identity())),
            "number-for-text": (mint(level="1"), ruled(claims=(claim("level", 1),))),
            "boolean-for-number": (mint(level=True), ruled(claims=(claim("level", 1),))),
            "object-for-text": (mint(level={}), ruled(claims=(claim("level", "1"),))),
        },
        "`require.claims`: the user lacks it": {
            "text": (mint(groups="reader"), EDITORS),
            "list": (mint(groups=["reader", "guest"]), EDITORS),
        },
        "`require.all_of`: the user lacks some": {"half": (mint(groups=["editor"]), BOTH)},
        "`require.when` says no": {"when": (mint(), ruled(condition=_Says()))},
        "a claim is absent (no such key) or of another type": {
            "when-absent": (mint(), ruled(condition=_Says("no such key: x"))),
        },
        "an id or name is no text; or more than 64 KiB would be sent": {
            "no-uid": (mint(), asking(question(subject="${claims.uid}"))),
            "empty-uid": (mint(uid=""), asking(question(subject="${claims.uid}"))),
            "list-of-uids": (mint(uid=["a"]), asking(question(subject="${claims.uid}"))),
        },
        "an unsafe method from another site": {
            "cookie": (None, COOKIES, {"method": "POST", "headers": {"cookie": f"t={mint()}"}})
        },
    },
    Reason.INSUFFICIENT_SCOPE: {
        "less was granted than the rule requires": {
            "less": (mint(scope="a"), ruled(scopes=("a", "b"))),
            "none": (mint(), ruled(scopes=("a",))),
        },
        "a type that grants none, or empty": {
            "empty": (mint(scp=""), ruled(scopes=("a",))),
            "objects": (mint(scope=[{"name": "a"}]), ruled(any_scope=("a", "b"))),
        },
    },
    Reason.STEP_UP_REQUIRED: {
        "for example a login without second factor": {
            "acr": (mint(acr="pwd"), ruled(acr=MFA)),
            "amr": (mint(amr=["pwd"]), ruled(amr=MFA)),
        },
        "absent, or of another type": {
            "acr-absent": (mint(), ruled(acr=MFA)),
            "acr-a-list": (mint(acr=["mfa"]), ruled(acr=MFA)),
            "amr-a-text": (mint(amr="mfa"), ruled(amr=MFA)),
        },
        "by the context of its answer": {
            "pdp": (GOOD, ASKING, {"facts": answered(STEP_UP, ASKING)}),
            "pdp-with-a-reason": (GOOD, ASKING, {"facts": answered(replace(STEP_UP, note="policy 7"), ASKING)}),
        },
        "older than `max_age`": {"old-login": (mint(auth_time=T - 61), ruled(max_age=60))},
        "`require.risk.step_up`, for the risk named first": {
            f"risk-{name}": (mint(), risky(known_network=True, step_up=step_up), STRANGE)
            for name, step_up in {
                "acr": Requirements(acr=MFA),
                "amr": Requirements(amr=MFA),
                "age": Requirements(max_age=60.0),
            }.items()
        },
        "absent, no number, or ahead of our clock": {
            "auth-time-absent": (mint(), ruled(max_age=60)),
            "auth-time-a-text": (mint(auth_time=str(T)), ruled(max_age=60)),
            "auth-time-ahead": (mint(auth_time=T + 9), ruled(max_age=60)),
        },
    },
    Reason.HEADER_UNSAFE: {
        "non-ASCII letters, or an attack by line breaks": {
            "umlaut": (mint(sub="Zoë"), None),
            "line-break": (mint(sub="a\r\nx: y"), None),
        },
        "the header wants text": {"an-object": (mint(sub="a", groups={"a": 1}), None)},
        "two lists would be written alike": {
            "a-comma": (mint(groups=["a,b"]), None),
            "an-empty-one": (mint(groups=[""]), None),
        },
        "a large claim": {"large": (mint(sub="x" * 9_000), None)},
        "large claims in `identity.token.claims`": SIZE_CAUSES,
    },
    Reason.UPSTREAM_TOKEN_UNAVAILABLE: UNAVAILABLE_CAUSES,
}
"""Rows for every cause, by name: a token, the world that it is evaluated in, and what else the request has."""

# The details of these say it themselves: the page has them without a cause, or leaves them out.
SAID: Final = frozenset(
    {
        "transaction tokens need one",
        "no issuer, so no key",
        "not one JSON object with unique members",
        "another trust domain, or no workload",
        "`max_lifetime`",
        "introspection names another",
        "an old token, or a wrong clock",
        "the issuer's clock, or ours",
        "none requested, or elsewhere",
        "none, another, or Envoy does not send it",
        "old, or a wrong clock",
        "a wrong clock, or an old nonce",
        "`dpop.nonces: always`",
        "in [a source](../feeds/REVOCATION.md)",
        "the issuer did not sign the list",
        "no answer, or another token than was asked for",
        "not text",
        "not text, and something needs it",
        "text, bool, null or negative",
        "another form",
        "milliseconds or finer",
        "never valid",
        "not an access token",
        "not as RFC 7800",
        "not as draft-ietf-oauth-status-list says",
        "the client uses a bound token as a bearer token",
        "the client proves possession for a token that is not bound",
        "`dpop: required`, or `require.bound`",
        "the client sends none, or several",
        "the client sends a proof beside a bearer token",
        "not a proof",
        "an algorithm that is not in `dpop.algorithms`, or of another key",
        "the key is missing, private, weak or malformed",
        "signed by another key, or changed on the way",
        "the client leaves out what RFC 9449 requires",
        "the list is not the one that the token names",
        "the server has no fresh list",
        "the clock of the server, or ours",
        "the list is too short",
        "`allow: deny`",
        "`require.issuers` lists others",
        "`require.claims`: the user lacks it",
        "`require.all_of`: the user lacks some",
        "`require.when` says no",
        "for example a login without second factor",
        "older than `max_age`",
        "a large claim",
        "large claims in `identity.token.claims`",
        "compared byte for byte",
        "it has ended, but for `leeway`",
        "only the rule's is wrong",
        "neither a key nor a certificate",
        "an issuer without `dpop`",
        "method, host or path of no rule; `HEAD` is not `GET`",
        "`identity.token.exchange.subjects` lists others",
        "the claim is absent or null",
        "another type, as a list of objects",
        "an id or name is no text; or more than 64 KiB would be sent",
        "less was granted than the rule requires",
        "a type that grants none, or empty",
        "absent, or of another type",
        "by the context of its answer",
        "absent, no number, or ahead of our clock",
        "the header wants text",
        "two lists would be written alike",
        "no key could be read or generated",
        "the key is elsewhere, and slow or away",
        "the token names no list",
        "the issuer's status list says so",
        "a required list was never loaded, or is too old",
        "its server is down or slow",
        "a list that is not configured",
        "made for another token",
        "a client that names no token",
        "a nonce that is not ours",
    }
)


def _by_cause() -> Mapping[tuple[Reason, str], list[Case]]:
    found: defaultdict[tuple[Reason, str], list[Case]] = defaultdict(list)
    for reason, causes in CAUSES.items():
        for cause, rows in causes.items():
            found[reason, "" if cause in SAID else cause] += [
                case(f"{name}-for-{reason}-J01", reason, token, snapshot=snapshot or DEFAULT_SNAPSHOT, **dict(*request))
                for name, (token, snapshot, *request) in rows.items()
            ]
    return found


BY_CAUSE: Final = _by_cause()
CASES: Final = [each for rows in BY_CAUSE.values() for each in rows]
