"""Token introspection (RFC 7662): the request as a need, the response, and what the response proves.

Rules of this file:
1. Only the literal `"active": true` makes a token active (section 2.2).
2. An active token may be a refresh token. The members that prove an access token are configured for each issuer, and
   a response without them is rejected.
3. A need contains a digest of the token and of the configured client and endpoint, so that a cached response is never
   used for another configuration.
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

INTROSPECTION: Final = "introspection"  # the kind of a need for an introspection response
SIGNED_TYPE: Final = "token-introspection+jwt"  # RFC 9701 section 5
MAX_RESPONSE_BYTES: Final = 65_536


class IntrospectionMode(StrEnum):
    """Which tokens are introspected: those that are not JWTs, or all; a JWT only after its own checks."""

    OPAQUE = "opaque"
    ALWAYS = "always"


AccessTokenProof = Mapping[str, frozenset[str | None]]
"""The allowed values of members of a response, in lower case; None if the member may be absent."""

ACCESS_TOKEN_PROOFS: Final[Mapping[str, AccessTokenProof]] = MappingProxyType(
    {
        # RFC 7662 section 2.2: token_type is for access tokens only. Some servers set it for refresh tokens too, and
        # mark those by another member.
        "bearer": {
            "token_type": frozenset({"bearer", "dpop"}),
            "token_use": frozenset({"access_token", "access", None}),
            "typ": frozenset({"bearer", "dpop", "at+jwt", "jwt", None}),
        },
        "token_use": {"token_use": frozenset({"access_token", "access"})},
        "typ": {"typ": frozenset({"bearer", "dpop"})},
    }
)
"""The members that prove an access token, by the name of the preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """How one issuer introspects. *client* is our client id, *source* a digest of the endpoint and of the client.

    *signed* requests JWT responses (RFC 9701), which the issuer's keys verify.
    """

    client: str
    source: str
    mode: IntrospectionMode = IntrospectionMode.OPAQUE
    proof: AccessTokenProof = field(default_factory=lambda: ACCESS_TOKEN_PROOFS["bearer"])
    signed: bool = False


@dataclass(frozen=True, slots=True)
class IntrospectionResponse:
    """A response: its *members*, and the same as JSON. *note* is why a token is inactive, if known.

    *parsed_claims* is cached here by `claims.check_introspection_response`, as with a token.
    """

    members: Mapping[str, object] = field(repr=False)
    payload: bytes = field(default=b"", repr=False)
    note: str = ""
    parsed_claims: object = field(default=None, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class SignedIntrospectionResponse:
    """A JWT response (RFC 9701). It is verified in each decision, because keys may be withdrawn."""

    text: str = field(repr=False)


def introspection_need(text: str, issuer: str, rules: Introspection) -> Need:
    """Return the need for the introspection of the token *text* by *issuer*, a configured name."""
    digest = sha256(f"{rules.source}\0{text}".encode()).hexdigest()
    return Need(INTROSPECTION, issuer, digest, Reason.INTROSPECTION_UNAVAILABLE, text)


def check_active(response: IntrospectionResponse, rules: Introspection) -> None:
    """Reject a token that is not active, or not proved to be an access token.

    Raises Rejected: TOKEN_INACTIVE, TYP_NOT_ALLOWED.
    """
    members = response.members
    if members.get("active") is not True:
        raise Rejected(Reason.TOKEN_INACTIVE, response.note or "the issuer says that the token is not active")
    for name, allowed in rules.proof.items():
        value = members.get(name)
        word = value.lower() if isinstance(value, str) else value
        if not isinstance(word, str | None) or word not in allowed:
            raise _unproved(f"{name} is {'absent' if value is None else 'not allowed'}")
    if str(members.get("token_type")).lower() == "dpop" and "cnf" not in members:
        raise _unproved("token_type is DPoP without a cnf")


def _unproved(why: str) -> Rejected:
    return Rejected(Reason.TYP_NOT_ALLOWED, f"active, but {why}: not proved to be an access token")
