"""Proves what `authz explain` advises: by what the token says of its issuer, and nothing where it depends."""

from __future__ import annotations

from typing import Any, Final

import pytest

from authz.core.claims import ClaimPath
from authz.core.identity import Identity
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.tooling.expected_claims import describe_expected_claims
from authz.tooling.explain.explanation import explain
from tests.fixtures import (
    A_EC,
    A_RSA,
    ABSENT,
    DEFAULT_SNAPSHOT,
    T,
    ask,
    changed,
    claim,
    issuer_a,
    key_set,
    make_snapshot,
    mint,
    rule,
)

SVID: Final = {"sub": "spiffe://example.org/ns/shop/sa/checkout"}
ENTRA: Final = "https://login.microsoftonline.com"
TENANT: Final = make_snapshot(issuers={f"{ENTRA}/t1/v2.0": issuer_a(issuer=f"{ENTRA}/t1/v2.0")})
LAX: Final = issuer_a(required=("exp",))


def ruled(**wanted: Any) -> Snapshot:  # noqa: ANN401 - requirements are of several types
    """Ask for something in the only rule."""
    return make_snapshot(rule("r", "/**", **wanted), identity=Identity())


ADVICE: Final[dict[str, tuple[str, Snapshot, Reason, str]]] = {
    "no-iss": (mint(iss=ABSENT), DEFAULT_SNAPSHOT, Reason.CLAIMS_MALFORMED, "have the issuer write iss"),
    "iss-of-nothing": (mint(iss=""), DEFAULT_SNAPSHOT, Reason.CLAIMS_MALFORMED, "have the issuer write iss"),
    "svid-without-iss": (mint(iss=ABSENT, claims=SVID), DEFAULT_SNAPSHOT, Reason.CLAIMS_MALFORMED, "set jwt_issuer at"),
    "svid-of-an-unknown-authority": (
        mint(A_EC, claims=SVID),
        make_snapshot(a=issuer_a(keys=key_set(A_RSA))),
        Reason.KEY_NOT_FOUND,
        "bundle or OIDC discovery provider",
    ),
    "svid-whose-key-is-for-something-else": (
        mint(A_EC, claims=SVID),
        make_snapshot(a=issuer_a(keys=key_set(A_RSA, changed(A_EC.public(), {"use": "tls"})))),
        Reason.KEY_UNUSABLE,
        "bundle or OIDC discovery provider",
    ),
    "svid-without-keys": (
        mint(A_EC, claims=SVID),
        make_snapshot(a=issuer_a(keys=None)),
        Reason.KEYS_UNAVAILABLE,
        "OIDC discovery provider",
    ),
    "key-for-something-else": (
        mint(A_EC),
        make_snapshot(a=issuer_a(keys=key_set(A_RSA, changed(A_EC.public(), {"use": "enc"})))),
        Reason.KEY_UNUSABLE,
        "have it publish use sig",
    ),
    "opaque-hydra": ("ory_at_abc.def", DEFAULT_SNAPSHOT, Reason.TOKEN_MALFORMED, "strategies.access_token: jwt"),
    "opaque": ("f3c1a9e2b7", DEFAULT_SNAPSHOT, Reason.TOKEN_MALFORMED, "an opaque token"),
    "encrypted": ("a.b.c.d.e", DEFAULT_SNAPSHOT, Reason.TOKEN_MALFORMED, "an encrypted token (JWE)"),
    "entra-v1": (
        mint(iss="https://sts.windows.net/t1/"),
        TENANT,
        Reason.ISSUER_UNKNOWN,
        "accessTokenAcceptedVersion",
    ),
    "entra-tenant": (mint(iss=f"{ENTRA}/t2/v2.0"), TENANT, Reason.ISSUER_UNKNOWN, "issuers.NAME.tenants"),
    "audience-keycloak": (
        mint(aud="account", typ="Bearer"),
        DEFAULT_SNAPSHOT,
        Reason.AUDIENCE_MISMATCH,
        "Keycloak writes aud by an Audience mapper",
    ),
    "audience-hydra": (
        mint(aud=[], client_id="web"),
        DEFAULT_SNAPSHOT,
        Reason.AUDIENCE_MISMATCH,
        "Ory Hydra writes the audience",
    ),
    "audience-cognito": (
        mint(aud=ABSENT, token_use="access"),
        DEFAULT_SNAPSHOT,
        Reason.AUDIENCE_MISMATCH,
        "set audience_claim: client_id",
    ),
    "audience": (mint(aud=ABSENT), DEFAULT_SNAPSHOT, Reason.AUDIENCE_MISMATCH, "have the client ask for your audience"),
    "milliseconds": (
        mint(exp=T * 1000),
        DEFAULT_SNAPSHOT,
        Reason.CLAIMS_MALFORMED,
        "have the issuer write seconds since 1970",
    ),
    "number-for-subject": (
        mint(sub=7),
        DEFAULT_SNAPSHOT,
        Reason.CLAIMS_MALFORMED,
        "have the issuer write sub as a string",
    ),
    "number-for-subject-in-a-header": (mint(sub=7), make_snapshot(a=LAX), Reason.CLAIMS_MALFORMED, "take sub out of"),
    "overage": (
        mint(groups=ABSENT, hasgroups=True),
        ruled(claims=(claim("groups", "x"),)),
        Reason.POLICY_DENIED,
        "use app roles",
    ),
    "lightweight": (
        mint(typ="Bearer", groups=ABSENT),
        ruled(claims=(claim("groups", "x"),)),
        Reason.POLICY_DENIED,
        "Add to lightweight access token",
    ),
    "machine": (mint(), ruled(max_age=60), Reason.STEP_UP_REQUIRED, "a token of a machine has no auth_time"),
    "unreachable-level": (mint(acr="0"), ruled(acr=("2",)), Reason.STEP_UP_REQUIRED, "cannot reach this acr"),
    "umlaut": (mint(sub="jürgen"), DEFAULT_SNAPSHOT, Reason.HEADER_UNSAFE, "unsafe_values: encode"),
    "comma": (mint(groups=["a,b"]), DEFAULT_SNAPSHOT, Reason.HEADER_UNSAFE, "unsafe_values: encode"),
}


@pytest.mark.parametrize(("token", "snapshot", "reason", "advice"), ADVICE.values(), ids=ADVICE)
def test_advice(token: str, snapshot: Snapshot, reason: Reason, advice: str) -> None:
    """A denial with a known cause says what to do, where, and once."""
    explained = explain(ask(token), snapshot, T)

    assert explained.decision.reason is reason
    (told,) = [note for note in explained.notes if note.startswith("to do: ")]
    assert advice in told


SILENT: Final[dict[str, tuple[str | None, Snapshot, Reason]]] = {
    "good": (mint(), DEFAULT_SNAPSHOT, Reason.AUTHENTICATED),
    "no-token": (None, DEFAULT_SNAPSHOT, Reason.TOKEN_MISSING),
    "expired": (mint(exp=T - 1), DEFAULT_SNAPSHOT, Reason.TOKEN_EXPIRED),
    "payload-that-cannot-be-read": (mint(payload=b"[]"), DEFAULT_SNAPSHOT, Reason.CLAIMS_MALFORMED),
    "iss-of-another-type": (mint(iss=1), DEFAULT_SNAPSHOT, Reason.CLAIMS_MALFORMED),
    "bad-base64": (mint().replace(".", ".!", 1), DEFAULT_SNAPSHOT, Reason.TOKEN_MALFORMED),
    "stranger": (mint(iss="https://c.test"), DEFAULT_SNAPSHOT, Reason.ISSUER_UNKNOWN),
    "stranger-to-entra": (mint(iss=f"{ENTRA}/t2/v2.0"), DEFAULT_SNAPSHOT, Reason.ISSUER_UNKNOWN),
    "stranger-with-a-broken-url": (mint(iss="https://[/"), TENANT, Reason.ISSUER_UNKNOWN),
    "key-not-found": (mint(A_EC), make_snapshot(a=issuer_a(keys=key_set(A_RSA))), Reason.KEY_NOT_FOUND),
    "blocked": (mint(), make_snapshot(a=issuer_a(keys=key_set(A_RSA).block(["a-rsa"]))), Reason.KEY_UNUSABLE),
    "other-audience": (mint(aud="other"), DEFAULT_SNAPSHOT, Reason.AUDIENCE_MISMATCH),
    "other-claim": (mint(groups=["a"]), ruled(claims=(claim("groups", "x"),)), Reason.POLICY_DENIED),
    "absent-claim": (mint(groups=ABSENT), ruled(claims=(claim("groups", "x"),)), Reason.POLICY_DENIED),
    "old-login": (mint(auth_time=T - 99), ruled(max_age=60), Reason.STEP_UP_REQUIRED),
    "object-for-a-header": (mint(groups={"a": 1}), DEFAULT_SNAPSHOT, Reason.HEADER_UNSAFE),
}


@pytest.mark.parametrize(("token", "snapshot", "reason"), SILENT.values(), ids=SILENT)
def test_no_advice_where_it_depends(token: str | None, snapshot: Snapshot, reason: Reason) -> None:
    """Where the step and the detail say it all, or no one can know, no advice stands below."""
    explained = explain(ask(token), snapshot, T)

    assert explained.decision.reason is reason
    assert not [note for note in explained.notes if note.startswith("to do: ")]


def test_nothing_of_the_token_is_repeated() -> None:
    """Advice is of fixed words: it may be sent to anyone."""
    for token, snapshot, _, _ in ADVICE.values():
        assert "s3cr3t" not in " ".join(explain(ask(token), snapshot, T).notes)
        assert "spiffe://example" not in " ".join(explain(ask(token), snapshot, T).notes)


def test_expected_claims() -> None:
    """For each claim that a rule reads: where it is in this issuer's tokens, of what type, and for which rules."""
    issuer = issuer_a(aliases={"groups": ClaimPath(("ext", "groups"))})
    rules = (
        rule("read", "/**", scopes=("r",), claims=(claim("groups", "a"), claim("level", 1, "one"))),
        rule("both", "/**", any_scope=("r",), claims=(claim("groups", "a", "b", every=True),)),
        rule("step", "/**", acr=("2",), amr=("otp",), max_age=60),
        rule("theirs", "/**", issuers=frozenset({"b"}), claims=(claim("tenant", "x"),)),
        rule("open", "/**"),
    )

    assert list(describe_expected_claims(issuer, rules)) == [
        "scope, or else scp: a string of space-separated scopes, or a list of strings; rule read, both",
        "ext.groups: a string, or a list of strings; rule read",
        "level: a number or string, or a list of numbers or strings; rule read",
        "ext.groups: a list of strings; rule both",
        "acr: a string; rule step",
        "amr: a list of strings; rule step",
        "auth_time: a number of seconds since 1970; rule step",
    ]


def test_rules_of_a_claim_are_bounded() -> None:
    """A hundred rules over one claim are one line."""
    rules = tuple(rule(f"r{number}", "/**", acr=("2",)) for number in range(100))

    assert list(describe_expected_claims(issuer_a(), rules)) == ["acr: a string; rule r0, r1, r2, r3 and 96 more"]
