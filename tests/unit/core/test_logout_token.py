"""Proves authz.core.logout_token: what providers send is taken, and each check of section 2.6 refuses alone.

And no token passes for another: access tokens are no logout tokens, nor ID tokens, and a logout token opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from authz.core.claims import LOGOUT_EVENT
from authz.core.decision import AuditTrail
from authz.core.issuer import LogoutRules, LogoutScope
from authz.core.logout_token import Logout, read_logout_token
from authz.core.needs import KEY, NO_FACTS
from authz.core.reasons import Reason, Rejected
from authz.core.revocation import RevocationEntry, RevokedBy
from authz.core.snapshot import Snapshot
from authz.demo.signing import SigningKey
from tests.fixtures import A_EC, A_RSA, ABSENT, B_EC, A, B, T, decide, issuer_a, make_snapshot, mint, signer

EVENTS: Final[Mapping[str, object]] = {LOGOUT_EVENT: {}}
LOGOUT_TYPE: Final = {"typ": "logout+jwt"}
# As oidc-provider 9.13 writes it, and with what Keycloak 26 adds.
GOOD: Final[Mapping[str, object]] = {
    "sub": "u", "events": EVENTS, "jti": "Qz_JGmjT8H4hvg9bdCnT2PXz95BbIchqnFf7dLvi41C", "sid": "s1", "aud": "web",
    "exp": T + 120, "iat": T, "iss": A, "groups": ABSENT,
}  # fmt: skip


def world(*clients: str, scope: LogoutScope = LogoutScope.SESSION, **rules: Any) -> Snapshot:  # noqa: ANN401
    """Accept logout tokens of issuer A for *clients*, web if none are named."""
    logout = LogoutRules(frozenset(clients or {"web"}), scope)
    return make_snapshot(a=replace(issuer_a(**rules), logout=logout))


def logout_token(key: SigningKey = A_RSA, *, header: Mapping[str, object] = LOGOUT_TYPE, **changes: object) -> str:
    """Write a good logout token with changes."""
    return mint(key, header=header, claims={**GOOD, **changes})


def read(token: str, snapshot: Snapshot | None = None, now: float = T) -> Logout:
    """Read a logout token."""
    return read_logout_token(token, snapshot or world(), AuditTrail(), now, NO_FACTS)


def test_a_session_ends() -> None:
    """A token with sid ends that session; one without ends what was issued to the subject until then."""
    session, subject = RevocationEntry(RevokedBy.SESSION, A, "s1"), RevocationEntry(RevokedBy.SUBJECT, A, "u", before=T)
    assert read(logout_token()) == Logout("a", (session,))
    assert read(logout_token(sid=ABSENT)) == Logout("a", (subject,))
    assert read(logout_token(sub=ABSENT)) == Logout("a", (session,))
    by_subject = world(scope=LogoutScope.SUBJECT)
    assert read(logout_token(), by_subject) == Logout("a", (session, subject))
    assert read(logout_token(sub=ABSENT), by_subject) == Logout("a", (session,))


@pytest.mark.parametrize(
    "token",
    {
        "as the specification says": logout_token(),
        "typ JWT, as older providers write": logout_token(header={"typ": "JWT"}),
        "no typ": logout_token(header={"typ": ABSENT}),
        "a media type": logout_token(header={"typ": "application/logout+jwt"}),
        "Keycloak's addition": logout_token(events={**EVENTS, "revoke_offline_access": True}),
        "several audiences": logout_token(aud=["other", "web"]),
        "no exp, and fresh": logout_token(exp=ABSENT, iat=T - 299),
        "an exp with a fraction": logout_token(exp=T + 0.5),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_what_providers_send(token: tuple[str, str]) -> None:
    """Each form is accepted."""
    assert read(token[1]).issuer == "a"


FORGED: Final = logout_token(signer("RS256", "other"), header={**LOGOUT_TYPE, "kid": "a-rsa"})
BAD: Final[dict[str, tuple[str, Reason]]] = {
    "no token": ("x.y", Reason.TOKEN_MALFORMED),
    "another typ": (logout_token(header={"typ": "at+jwt"}), Reason.TYP_NOT_ALLOWED),
    "a security event": (logout_token(header={"typ": "secevent+jwt"}), Reason.TYP_NOT_ALLOWED),
    "an issuer without logout": (logout_token(B_EC, iss=B), Reason.ISSUER_UNKNOWN),
    "a stranger": (logout_token(iss="https://evil.test"), Reason.ISSUER_UNKNOWN),
    "no issuer": (logout_token(iss=ABSENT), Reason.ISSUER_UNKNOWN),
    "no events": (logout_token(events=ABSENT), Reason.CLAIMS_MALFORMED),
    "events are a list": (logout_token(events=[LOGOUT_EVENT]), Reason.CLAIMS_MALFORMED),
    "another event": (logout_token(events={"https://x.test": {}}), Reason.CLAIMS_MALFORMED),
    "the event is no object": (logout_token(events={LOGOUT_EVENT: True}), Reason.CLAIMS_MALFORMED),
    "a nonce": (logout_token(nonce="n"), Reason.CLAIMS_MALFORMED),
    "a nonce that is null": (logout_token(nonce=None), Reason.CLAIMS_MALFORMED),
    "no jti": (logout_token(jti=ABSENT), Reason.CLAIMS_MALFORMED),
    "an empty jti": (logout_token(jti=""), Reason.CLAIMS_MALFORMED),
    "no iat": (logout_token(iat=ABSENT), Reason.CLAIMS_MALFORMED),
    "iat as text": (logout_token(iat=str(T)), Reason.CLAIMS_MALFORMED),
    "exp as a boolean": (logout_token(exp=True), Reason.CLAIMS_MALFORMED),
    "from the future": (logout_token(iat=T + 1), Reason.TOKEN_NOT_YET_VALID),
    "expired": (logout_token(exp=T), Reason.TOKEN_EXPIRED),
    "no exp, and old": (logout_token(exp=ABSENT, iat=T - 300), Reason.TOKEN_EXPIRED),
    "for another client": (logout_token(aud="other"), Reason.AUDIENCE_MISMATCH),
    "for the API": (logout_token(aud="api"), Reason.AUDIENCE_MISMATCH),
    "for no one": (logout_token(aud=ABSENT), Reason.AUDIENCE_MISMATCH),
    "for a number": (logout_token(aud=[7]), Reason.AUDIENCE_MISMATCH),
    "of no one": (logout_token(sub=ABSENT, sid=ABSENT), Reason.CLAIMS_MALFORMED),
    "sid is a number": (logout_token(sid=7), Reason.CLAIMS_MALFORMED),
    "sub is empty": (logout_token(sid=ABSENT, sub=""), Reason.CLAIMS_MALFORMED),
    "signed by another key": (FORGED, Reason.SIGNATURE_INVALID),
    "signed by another issuer": (logout_token(B_EC), Reason.KEY_NOT_FOUND),
    "an algorithm that is not allowed": (logout_token(signer("ES384", "x")), Reason.ALG_NOT_ALLOWED),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_each_check_refuses_alone(name: str) -> None:
    """And for its own reason."""
    token, reason = BAD[name]
    with pytest.raises(Rejected) as refused:
        read(token)
    assert refused.value.reason is reason


def test_the_clock_of_the_issuer_may_differ() -> None:
    """By as much as its access tokens may."""
    lenient = world(leeway=30)
    for token in (logout_token(iat=T + 30), logout_token(exp=T - 29)):
        assert read(token, lenient).issuer == "a"


def test_a_new_key_is_a_need() -> None:
    """The issuer may have rotated since: the receiver is told which key to look for."""
    trail = AuditTrail()
    with pytest.raises(Rejected):
        read_logout_token(logout_token(signer("ES256", "new")), world(), trail, T, NO_FACTS)
    ((kind, of, asked),) = [(need.kind, need.source, need.identifier) for need in trail.needs]
    assert (kind, of, asked) == (KEY, "a", "new")


def test_an_access_token_logs_no_one_out() -> None:
    """Nor does an ID token, even if the API is, by mistake, listed as a client."""
    mistaken = world("web", "api")
    for token in (
        mint(),
        mint(header={"typ": "at+jwt"}),
        mint(aud="web", nonce="n", sid="s1"),
        mint(sid="s1", jti="j"),
    ):
        with pytest.raises(Rejected) as refused:
            read(token, mistaken)
        assert refused.value.reason in {Reason.CLAIMS_MALFORMED, Reason.TYP_NOT_ALLOWED}


@pytest.mark.parametrize("header", [LOGOUT_TYPE, {"typ": "JWT"}, {"typ": "at+jwt"}, {"typ": ABSENT}], ids=str)
@pytest.mark.parametrize("key", [A_RSA, A_EC], ids=["RS256", "ES256"])
def test_a_logout_token_opens_nothing(header: Mapping[str, object], key: SigningKey) -> None:
    """Even if its audience is, by mistake, that of the API, and its issuer accepts any type."""
    snapshot = world("api", token_types=frozenset({"jwt", "at+jwt", "logout+jwt"}))
    token = logout_token(key, header=header, aud="api")
    if header["typ"] != "at+jwt":
        assert read(token, snapshot).issuer == "a"
    assert decide(token, snapshot=snapshot).reason is Reason.CLAIMS_MALFORMED
