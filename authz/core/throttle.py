"""Throttle networks that send many bad tokens: 429, before any signature is verified and any issuer is asked.

Rules of this file:
1. Only denials of tokens that may be guessed, forged or stolen count (BAD_TOKENS). An expired token does not: every
   client sends one now and then. Denials by the throttle itself do not count either, so that a network recovers.
2. A network may be shared. A token that was accepted before is not throttled in any network, nor is a new token in a
   network in which its subject was accepted before. Both are then checked like any other, so a false claim gains
   nothing.
3. Failures are not counted by the claims of a token: a client could write another's name into them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from authz.core.client_network import NetworkRules, network_of
from authz.core.decision import AuditTrail
from authz.core.needs import Facts, Need
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request
from authz.core.token import FoundToken, parse_token

THROTTLE: Final = "throttle"  # the kind of a need to know whether a network is throttled; `identifier` is the network
ACCEPTED: Final = "accepted"  # the kind of a need to know whether a token or a subject was accepted before
TOKEN: Final = "token"  # the sources of a need of that kind: what was accepted
SUBJECT: Final = "subject"
_DIGEST_BYTES: Final = 12

BAD_TOKENS: Final = frozenset(
    {
        Reason.TOKEN_MALFORMED,
        Reason.TOKEN_TOO_LARGE,
        Reason.HEADER_INVALID,
        Reason.ALG_NOT_ALLOWED,
        Reason.CRIT_UNSUPPORTED,
        Reason.TYP_NOT_ALLOWED,
        Reason.ISSUER_UNKNOWN,
        Reason.KEY_NOT_FOUND,
        Reason.KEY_AMBIGUOUS,
        Reason.KEY_UNUSABLE,
        Reason.SIGNATURE_INVALID,
        Reason.TOKEN_INACTIVE,
        Reason.TOKEN_BOUND,
        Reason.PROOF_INVALID,
    }
)
"""The reasons that count as a failure of the client's network: the token was guessed, forged, or stolen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """A network may fail *failures* times at once, and then again as often in each *window*, in seconds.

    In *shadow*, requests that would be denied are only reported.
    """

    failures: int
    window: float
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRules:
    """How the network of a client is determined, and whether failures throttle it."""

    networks: NetworkRules = field(default_factory=NetworkRules)
    throttle: Throttle | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """A network is throttled: it may send its next token in *seconds*."""

    seconds: float


def check_throttle(
    found_token: FoundToken, request: Request, rules: ClientRules, max_bytes: int, trail: AuditTrail, facts: Facts
) -> None:
    """Deny the request if its network is throttled, and its token was not accepted. Raises Rejected(THROTTLED)."""
    network = trail.network = network_of(request, rules.networks)
    if network is None or rules.throttle is None:
        return
    throttled = facts.get(Need(THROTTLE, "clients", network))
    if not isinstance(throttled, Throttled) or _was_accepted(found_token.text, network, max_bytes, facts):
        return
    trail.throttled = True
    if not rules.throttle.shadow:
        seconds = max(1, -int(-throttled.seconds // 1))
        detail = (
            f"too many bad tokens from {network}: more than {rules.throttle.failures} in {rules.throttle.window:g} s"
        )
        rejected = Rejected(Reason.THROTTLED, detail)
        rejected.retry_after = seconds
        raise rejected


def digest_token(text: str) -> str:
    """Return the digest by which an accepted token is remembered."""
    return _digest(text.encode("utf-8", "surrogatepass"))


def digest_subject(members: Mapping[str, object], network: str) -> str | None:
    """Return the digest by which a subject is remembered in *network*; None if the token names none.

    It includes the session and the key of the token, if there are any, because other clients cannot guess them.
    """
    identifiers = [members.get(name) for name in ("sub", "client_id", "azp")]
    if not any(identifiers):
        return None
    identity = [network, members.get("iss"), *identifiers, members.get("sid"), members.get("cnf")]
    return _digest(json.dumps(identity, sort_keys=True).encode())


def digest_owner(members: Mapping[str, object]) -> str:
    """Return a digest of the subject of a token, the same in all networks and sessions."""
    return _digest(json.dumps([members.get(name) for name in ("iss", "sub", "client_id", "azp")]).encode())


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def _was_accepted(text: str, network: str, max_bytes: int, facts: Facts) -> bool:
    """Return whether this token, or its subject in this network, was accepted before. Nothing is verified here."""
    if len(text) > max_bytes:
        return False
    if facts.get(Need(ACCEPTED, TOKEN, digest_token(text))) is not None:
        return True
    try:
        members = parse_token(text, max_bytes=max_bytes, cached=False).members
    except Rejected:
        return False
    subject = digest_subject(members, network)
    return subject is not None and facts.get(Need(ACCEPTED, SUBJECT, subject)) is not None
