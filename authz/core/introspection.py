"""What an issuer says about a token when it is asked (RFC 7662): the question, the answer, and what the answer proves.

Rules of this file:
1. Only the literal `"active": true` makes a token active (section 2.2).
2. An active token is not yet an access token: servers call refresh tokens active too. What proves the kind is
   configured for each issuer, and an answer without the proof is refused.
3. A question is known by a digest of the token and of who asks whom: an answer never serves another configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from authz.core.needs import Need
from authz.core.reasons import Reason, Rejected

INTROSPECTION: Final = "introspection"  # the kind of a need for what an issuer says of a token
SIGNED_TYPE: Final = "token-introspection+jwt"  # RFC 9701 section 5
MAX_ANSWER_BYTES: Final = 65_536


class IntrospectionMode(StrEnum):
    """Of which tokens the issuer is asked: those that are no JWT, or every one; a JWT only after its own checks."""

    OPAQUE = "opaque"
    ALWAYS = "always"


Proof = Mapping[str, frozenset[str | None]]
"""The values that members of an answer must have, in lower case; None if the member may be absent."""

PROOFS: Final[Mapping[str, Proof]] = MappingProxyType(
    {
        # RFC 7662 section 2.2: token_type is for access tokens only. Some servers write it for refresh tokens too, and
        # say so in another member.
        "bearer": {
            "token_type": frozenset({"bearer", "dpop"}),
            "token_use": frozenset({"access_token", "access", None}),
            "typ": frozenset({"bearer", "dpop", "at+jwt", "jwt", None}),
        },
        "token_use": {"token_use": frozenset({"access_token", "access"})},
        "typ": {"typ": frozenset({"bearer", "dpop"})},
    }
)
"""What proves an access token, by the name of the preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """How one issuer is asked. *client* is who asks, *source* a digest of where and as whom.

    *signed* asks for answers that are JWTs (RFC 9701), verified by the issuer's keys.
    """

    client: str
    source: str
    mode: IntrospectionMode = IntrospectionMode.OPAQUE
    proof: Proof = field(default_factory=lambda: PROOFS["bearer"])
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Introspected:
    """An answer: its *members*, and the same as JSON. *note* says why a token is inactive, if the server said so."""

    members: Mapping[str, object] = field(repr=False)
    payload: bytes = field(default=b"", repr=False)
    note: str = ""


@dataclass(frozen=True, slots=True)
class SignedAnswer:
    """An answer that is a JWT. It is verified with each decision: keys may be withdrawn."""

    text: str = field(repr=False)


def ask_about(text: str, issuer: str, rules: Introspection) -> Need:
    """Return the need for what *issuer*, a configured name, says of the token *text*."""
    digest = sha256(f"{rules.source}\0{text}".encode()).hexdigest()
    return Need(INTROSPECTION, issuer, digest, Reason.INTROSPECTION_UNAVAILABLE, text)


def check_active(answer: Introspected, rules: Introspection) -> None:
    """Refuse a token that is not active, or not proved to be an access token.

    Raises Rejected: TOKEN_INACTIVE, TYP_NOT_ALLOWED.
    """
    members = answer.members
    if members.get("active") is not True:
        raise Rejected(Reason.TOKEN_INACTIVE, answer.note or "the issuer says that the token is not active")
    for name, allowed in rules.proof.items():
        value = members.get(name)
        word = value.lower() if isinstance(value, str) else value
        if not isinstance(word, str | None) or word not in allowed:
            raise _unproved(f"{name} is {'absent' if value is None else 'another'}")
    if str(members.get("token_type")).lower() == "dpop" and "cnf" not in members:
        raise _unproved("token_type is DPoP without a cnf")


def _unproved(why: str) -> Rejected:
    return Rejected(Reason.TYP_NOT_ALLOWED, f"active, but {why}: not proved to be an access token")
