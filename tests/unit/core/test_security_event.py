"""Proves authz.core.security_event: events of CAEP and RISC end what they name, by each format of a subject.

And no SET passes for a token, nor a token or a stranger's SET for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from authz.core.decision import AuditTrail
from authz.core.issuer import LogoutScope
from authz.core.needs import KEY, NO_FACTS
from authz.core.reasons import Reason, Rejected
from authz.core.revocation import RevocationEntry, RevokedBy
from authz.core.security_event import SecurityEvent, Transmitter, read_security_event
from authz.demo.signing import SigningKey
from tests.fixtures import (
    A_RSA,
    ABSENT,
    B_EC,
    DEFAULT_SNAPSHOT,
    A,
    B,
    T,
    decide,
    issuer_a,
    key_set,
    make_snapshot,
    mint,
    signer,
)

HUB: Final = "https://hub.test"
US: Final = "https://api.test/ssf"
HUB_KEY: Final = signer("ES256", "hub")
CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
SSF: Final = "https://schemas.openid.net/secevent/ssf/event-type/"
EVE: Final[Mapping[str, object]] = {"format": "iss_sub", "iss": A, "sub": "eve"}
SECEVENT: Final[Mapping[str, object]] = {"typ": "secevent+jwt"}
REVOKED: Final[Mapping[str, object]] = {f"{CAEP}session-revoked": {"event_timestamp": T - 10}}
GONE: Final = dict.fromkeys(("sub", "exp", "groups"), ABSENT)
ABOUT_EVE: Final = RevocationEntry(RevokedBy.SUBJECT, A, "eve", T - 10)


def hub(*issuers: str, scope: LogoutScope = LogoutScope.SESSION) -> dict[str, Transmitter]:
    """Trust the hub to speak of tokens of these issuers, A if none are named."""
    keys = key_set(HUB_KEY)
    issuer = replace(issuer_a(issuer=HUB, audiences=frozenset({US}), leeway=30), name="hub", keys=keys)
    return {HUB: Transmitter(issuer, issuers or (A,), scope)}


def event(
    events: object = REVOKED,
    subject: object = EVE,
    *,
    key: SigningKey = HUB_KEY,
    header: Mapping[str, object] = SECEVENT,
    **claims: object,
) -> str:
    """Write a SET with changes."""
    good = {**GONE, "iss": HUB, "aud": US, "jti": "756E69717565", "iat": T, "sub_id": subject, "events": events}
    return mint(key, header=header, claims={**good, **claims})


def read(token: str, transmitters: Mapping[str, Transmitter] | None = None) -> SecurityEvent:
    """Read a SET."""
    return read_security_event(token, transmitters or hub(), DEFAULT_SNAPSHOT, AuditTrail(), T, NO_FACTS)


def happened(name: str, **members: object) -> dict[str, object]:
    """Write the events of a SET with one event."""
    return {name: {"event_timestamp": T - 10, **members}}


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        (happened(f"{CAEP}session-revoked"), True),
        (happened(f"{CAEP}token-claims-change", claims={"role": "reader"}), True),
        (happened(f"{CAEP}credential-change", change_type="revoke"), True),
        (happened(f"{CAEP}credential-change", change_type="update"), True),
        (happened(f"{CAEP}credential-change", change_type="create"), False),
        (happened(f"{RISC}account-disabled", reason="hijacking"), True),
        (happened(f"{RISC}account-purged"), True),
        (happened(f"{RISC}sessions-revoked"), True),
        (happened(f"{RISC}account-enabled"), False),
        (happened(f"{CAEP}assurance-level-change"), False),
        ({f"{SSF}verification": {"state": "VGhpcyBpcyBh"}}, False),
        ({"https://example.com/unheard-of": {}}, False),
        ({**happened(f"{RISC}account-enabled"), **happened(f"{RISC}account-disabled")}, True),
    ],
)
def test_each_event(events: object, ends: bool) -> None:  # noqa: FBT001 - a row
    """Those that end sessions end what was issued until they happened; the others are accepted and end nothing."""
    assert read(event(events)) == SecurityEvent("756E69717565", (ABOUT_EVE,) if ends else ())


@pytest.mark.parametrize(
    ("event_timestamp", "more", "before"),
    [
        (T - 10.5, {}, T - 10.5),
        (ABSENT, {}, T),
        (ABSENT, {"toe": T - 7}, T - 7),
        (T * 1000, {}, T),
        (T + 500, {}, T),
        ("yesterday", {"toe": True}, T),
    ],
)
def test_when_it_happened(event_timestamp: object, more: Mapping[str, Any], before: float) -> None:
    """A time that is absent, in milliseconds or ahead is that of the SET: later logins are not ended."""
    members = {} if event_timestamp is ABSENT else {"event_timestamp": event_timestamp}
    (entry,) = read(event({f"{CAEP}session-revoked": members}, **more)).entries
    assert entry.before == before


def by(kind: RevokedBy, value: str, issuer: str = A, before: float | None = T - 10) -> RevocationEntry:
    """Write an entry."""
    return RevocationEntry(kind, issuer, value, before)


SESSION: Final = by(RevokedBy.SESSION, "s1", before=None)
COMPLEX: Final = {"format": "complex", "user": EVE, "session": {"format": "opaque", "id": "s1"}}
ALIASES: Final = [EVE, {"format": "email", "email": "eve@a.test"}, "text"]
SUBJECTS: Final[dict[str, tuple[object, list[RevocationEntry]]]] = {
    "iss_sub": (EVE, [ABOUT_EVE]),
    "opaque": ({"format": "opaque", "id": "eve"}, [ABOUT_EVE]),
    "email": ({"format": "email", "email": "Eve@A.test"}, [by(RevokedBy.EMAIL, "eve@a.test")]),
    "account": (
        {"format": "account", "uri": "acct:Eve@a.test"},
        [by(RevokedBy.SUBJECT, "acct:Eve@a.test"), by(RevokedBy.EMAIL, "eve@a.test")],
    ),
    "jwt_id": ({"format": "jwt_id", "iss": A, "jti": "j"}, [by(RevokedBy.TOKEN, "j", before=None)]),
    "did": ({"format": "did", "url": "did:example:1"}, [by(RevokedBy.SUBJECT, "did:example:1")]),
    "uri": ({"format": "uri", "uri": "urn:x:1"}, [by(RevokedBy.SUBJECT, "urn:x:1")]),
    "aliases": ({"format": "aliases", "identifiers": ALIASES}, [ABOUT_EVE, by(RevokedBy.EMAIL, "eve@a.test")]),
    "complex": (COMPLEX, [SESSION]),
    "complex, without its format": ({"session": {"format": "opaque", "id": "s1"}}, [SESSION]),
    "complex, of a user": ({"format": "complex", "user": EVE, "device": {"format": "opaque", "id": "d"}}, [ABOUT_EVE]),
}
NESTED: dict[str, object] = {"format": "aliases", "identifiers": [EVE]}
for _ in range(2):
    NESTED = {"format": "aliases", "identifiers": [NESTED]}
UNMATCHED: Final[dict[str, object]] = {
    "none": None,
    "a text": "eve",
    "a phone": {"format": "phone_number", "phone_number": "+1"},
    "a tenant": {"format": "complex", "tenant": {"format": "opaque", "id": "t"}},
    "no sub": {"format": "iss_sub", "iss": A},
    "sub is a number": {"format": "iss_sub", "iss": A, "sub": 7},
    "an email that is none": {"format": "email", "email": 7},
    "an account that is none": {"format": "account", "uri": 7},
    "aliases that are none": {"format": "aliases", "identifiers": "eve"},
    "a session that is none": {"session": "s1"},
    "aliases in aliases without end": NESTED,
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_each_format_of_a_subject(name: str) -> None:
    """As RFC 9493 and SSF write them, in the SET or, as until SSF 1.0, in the event."""
    subject, entries = SUBJECTS[name]
    assert list(read(event(subject=subject)).entries) == entries
    within = event(happened(f"{CAEP}session-revoked", subject=subject), ABSENT)
    assert list(read(within).entries) == entries


def test_a_session_may_end_all_of_its_user() -> None:
    """For access tokens without sid."""
    assert read(event(subject=COMPLEX), hub(scope=LogoutScope.SUBJECT)).entries == (SESSION, ABOUT_EVE)


def test_a_subject_without_issuer_is_of_each_that_is_meant() -> None:
    """A hub of two issuers that knows one identifier."""
    found = read(event(subject={"format": "opaque", "id": "eve"}), hub(A, B)).entries
    assert found == (ABOUT_EVE, by(RevokedBy.SUBJECT, "eve", B))


@pytest.mark.parametrize("name", UNMATCHED)
def test_a_subject_that_cannot_be_matched(name: str) -> None:
    """The transmitter learns it: an event that is accepted would seem to be in force."""
    with pytest.raises(Rejected) as refused:
        read(event(subject=UNMATCHED[name]))
    assert refused.value.reason is Reason.CLAIMS_MALFORMED


def test_a_transmitter_speaks_for_its_own_issuers_only() -> None:
    """A partner's hub ends no session of our own people."""
    for subject in ({**EVE, "iss": B}, {"format": "jwt_id", "iss": B, "jti": "j"}, {**EVE, "iss": ["x"]}):
        with pytest.raises(Rejected) as refused:
            read(event(subject=subject))
        assert refused.value.reason is Reason.POLICY_DENIED


BAD: Final[dict[str, tuple[str, Reason]]] = {
    "an access token": (mint(HUB_KEY, iss=HUB, aud=US), Reason.TYP_NOT_ALLOWED),
    "no typ": (event(header={"typ": ABSENT}), Reason.TYP_NOT_ALLOWED),
    "a logout token": (event(header={"typ": "logout+jwt"}), Reason.TYP_NOT_ALLOWED),
    "a stranger's": (event(iss="https://evil.test"), Reason.ISSUER_UNKNOWN),
    "of an issuer of tokens": (event(key=A_RSA, iss=A), Reason.ISSUER_UNKNOWN),
    "without iss": (event(iss=ABSENT), Reason.ISSUER_UNKNOWN),
    "by the key of an issuer": (event(key=A_RSA), Reason.KEY_NOT_FOUND),
    "forged": (event(key=B_EC, header={**SECEVENT, "kid": "hub"}), Reason.SIGNATURE_INVALID),
    "for another": (event(aud=["https://other.test"]), Reason.AUDIENCE_MISMATCH),
    "for no one": (event(aud=ABSENT), Reason.AUDIENCE_MISMATCH),
    "without iat": (event(iat=ABSENT), Reason.CLAIMS_MALFORMED),
    "from the future": (event(iat=T + 31), Reason.TOKEN_NOT_YET_VALID),
    "without jti": (event(jti=ABSENT), Reason.CLAIMS_MALFORMED),
    "without events": (event(ABSENT), Reason.CLAIMS_MALFORMED),
    "with no event": (event({}), Reason.CLAIMS_MALFORMED),
    "with an event that is none": (event({f"{CAEP}session-revoked": True}), Reason.CLAIMS_MALFORMED),
    "with another algorithm": (event(key=signer("ES384", "x")), Reason.ALG_NOT_ALLOWED),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_event_for_us(name: str) -> None:
    """Each check refuses alone, for its own reason."""
    token, reason = BAD[name]
    with pytest.raises(Rejected) as refused:
        read(token)
    assert refused.value.reason is reason


def test_several_audiences() -> None:
    """Ours may be one of them."""
    assert read(event(aud=["https://other.test", US])).entries == (ABOUT_EVE,)


def test_a_new_key_of_the_transmitter_is_a_need() -> None:
    """It may have rotated."""
    trail = AuditTrail()
    with pytest.raises(Rejected):
        read_security_event(event(key=signer("ES256", "new")), hub(), DEFAULT_SNAPSHOT, trail, T, NO_FACTS)
    assert [(need.kind, need.source, need.identifier) for need in trail.needs] == [(KEY, "hub", "new")]


@pytest.mark.parametrize("claims", [{}, {"sub": "eve", "exp": T + 60, "aud": "api"}], ids=["as it is", "dressed up"])
def test_an_event_opens_nothing(claims: dict[str, Any]) -> None:
    """Even if the transmitter is, by mistake, an issuer of tokens too."""
    both = replace(issuer_a(issuer=HUB, audiences=frozenset({US, "api"})), keys=key_set(HUB_KEY))
    snapshot = make_snapshot(issuers={HUB: both})
    assert decide(event(**claims), snapshot=snapshot).reason is Reason.TYP_NOT_ALLOWED
