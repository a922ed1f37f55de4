"""Check that a bound token is used by its sender (RFC 7800): by a certificate (RFC 8705) or a proof (RFC 9449).

Rules of this file:
1. A token is bound if it has `cnf`. Every confirmation method in it must be checked; a token with one that is not
   supported is rejected, because a stolen one would pass.
2. A proof and its token belong together: the scheme is DPoP, the token is bound to a key, and the proof is under it.
3. A proof is accepted once. Whether it was used is a need, and the last one, when nothing else is missing: a client
   that must retry can send the same proof again.
"""

from __future__ import annotations

import hashlib
import re
from binascii import a2b_base64
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from authz.core import base64url
from authz.core.claims import Claims
from authz.core.decision import AuditTrail
from authz.core.dpop import MAX_CACHED_PROOFS, SCHEME, Possession, Proof, ProofUse, read_proof, verify_once
from authz.core.issuer import Issuer
from authz.core.needs import PROOF, Facts, Need
from authz.core.reasons import Reason, Rejected
from authz.core.record import record
from authz.core.request import Request
from authz.core.token import FoundToken, HeaderSource

MAX_CERTIFICATE_CHARS: Final = 16_384  # URL-encoded PEM
_BY_CERTIFICATE: Final = "x5t#S256"
_BY_KEY: Final = "jkt"
# The other registered confirmation methods; members that are not registered are ignored (RFC 7800 section 3.1).
_NOT_CHECKED: Final = frozenset({"jwk", "jwe", "kid", "jku", "osc"})


def check_binding(
    found_token: FoundToken, claims: Claims, request: Request, issuer: Issuer, now: float, trail: AuditTrail
) -> Proof | None:
    """Reject a bound token that is not used by its sender, and a token that must be bound and is not.

    Return the proof that came with it, whose signature `check_proof` verifies, or None for a token without one.

    Raises Rejected: CLAIMS_MALFORMED, TOKEN_BOUND, PROOF_INVALID, NONCE_REQUIRED.
    """
    if issuer.possession is Possession.OFF and "cnf" not in claims.members and not uses_dpop(found_token):
        return None  # most tokens are neither bound nor required to be
    proof = _read_proof(found_token, request, issuer, now, trail)
    confirmation = _read_confirmation(claims)
    if confirmation is not None and _BY_CERTIFICATE in confirmation:
        _check_certificate(confirmation[_BY_CERTIFICATE], request.certificate)
    if confirmation is not None and _BY_KEY in confirmation:
        _check_key(confirmation[_BY_KEY], proof, issuer, trail)
    elif proof is not None:
        raise Rejected(Reason.TOKEN_BOUND, "the token is sent with a proof, and is not bound to a key")
    elif issuer.possession is Possession.REQUIRED:
        trail.schemes = (SCHEME,)
        raise Rejected(Reason.TOKEN_BOUND, "the token is not bound to a key, as this issuer's must be (DPoP)")
    return proof


def _read_proof(
    found_token: FoundToken, request: Request, issuer: Issuer, now: float, trail: AuditTrail
) -> Proof | None:
    """Return the proof that came with the token, None for a token that was sent without one."""
    text = request.headers.get("dpop")
    if not uses_dpop(found_token):
        if text is not None and issuer.possession is not Possession.OFF:
            trail.schemes = (SCHEME,)
            raise Rejected(Reason.PROOF_INVALID, "proof: the token beside it is sent as a bearer token")
        return None
    if issuer.possession is Possession.OFF:
        raise Rejected(Reason.TOKEN_BOUND, "tokens of this issuer are not accepted under the scheme DPoP")
    urls = issuer.proofs.urls(request.host, request.path)
    return _read_proof_cached(
        text, token=found_token.text, method=request.method, urls=urls, rules=issuer.proofs, now=now
    )


# Cached, because a request that lacks facts is decided more than once.
_read_proof_cached: Final = lru_cache(maxsize=MAX_CACHED_PROOFS)(read_proof)


def uses_dpop(found_token: FoundToken) -> bool:
    """Return whether a token was sent under the scheme DPoP."""
    return isinstance(found_token.source, HeaderSource) and found_token.source.scheme == SCHEME


def _read_confirmation(claims: Claims) -> dict[str, object] | None:
    if "cnf" not in claims.members:
        return None
    confirmation = claims.members["cnf"]
    if not isinstance(confirmation, dict):
        raise Rejected(Reason.CLAIMS_MALFORMED, "cnf is not an object")
    if confirmation.keys().isdisjoint((_BY_CERTIFICATE, _BY_KEY)) or not _NOT_CHECKED.isdisjoint(confirmation):
        raise Rejected(Reason.TOKEN_BOUND, "cnf requires a proof that is not checked here")
    return confirmation


def _check_certificate(expected: object, certificate: str) -> None:
    """RFC 8705 section 3.1. *certificate* is the peer's, in URL-encoded PEM, as Envoy sends it."""
    thumbprint = certificate_thumbprint(certificate)
    if thumbprint is None or expected != thumbprint:  # cnf may contain null
        raise Rejected(Reason.TOKEN_BOUND, "the peer's certificate is not the one in cnf")


def _check_key(expected: object, proof: Proof | None, issuer: Issuer, trail: AuditTrail) -> None:
    """RFC 9449 section 6.1: the key of the proof is the one that the token is bound to."""
    if proof is None and issuer.possession is Possession.OFF:
        raise Rejected(Reason.TOKEN_BOUND, "the token is bound to a key, and DPoP is off for its issuer")
    if proof is None:
        trail.schemes = (SCHEME,)
        raise Rejected(Reason.TOKEN_BOUND, "the token is bound to a key, and is not sent under the scheme DPoP")
    if expected != proof.thumbprint:
        raise Rejected(Reason.PROOF_INVALID, "proof: its key is not the one in cnf")


@record
class UnusedProof:
    """A valid proof that is not known to have been used. Answering *need* records its use."""

    need: Need


def check_proof(proof: Proof, issuer: Issuer, trail: AuditTrail, facts: Facts) -> UnusedProof:
    """Verify the signature of a proof, before its request causes a question to another service.

    A proof that is known to have been used causes none. Raises Rejected(PROOF_INVALID).
    """
    payload = f"{proof.until} {proof.thumbprint}"
    need = Need(PROOF, issuer.name, proof.replay_key, Reason.OVERLOADED, payload, single_use=True)
    if facts.get(need) is ProofUse.REPLAYED:
        raise _replayed()
    verify_once(proof)
    trail.thumbprint = proof.thumbprint
    return UnusedProof(need)


def check_use(proof: UnusedProof | None, trail: AuditTrail, facts: Facts) -> None:
    """Accept a proof at its first use, and a request without one.

    No step that may lack a fact comes after it: a retryable denial would leave the client with a used proof.

    Raises Rejected(PROOF_INVALID).
    """
    if not is_first_use(proof, trail, facts):
        if proof is not None and proof.need in trail.needs:
            raise Rejected(Reason.PROOF_INVALID, "proof: not known whether it was used before")
        raise _replayed()


def is_first_use(proof: UnusedProof | None, trail: AuditTrail, facts: Facts) -> bool:
    """Return whether a proof, if there is one, is used for the first time; if that is not known, add the need."""
    if proof is None:
        return True
    use = facts.get(proof.need)
    if use is None and proof.need not in trail.needs:
        trail.needs += (proof.need,)
    if use is not ProofUse.FIRST:
        trail.valid_token = trail.thumbprint = None  # they may be stolen
        return False
    return True


def _replayed() -> Rejected:
    return Rejected(Reason.PROOF_INVALID, "proof: used before")


def certificate_thumbprint(certificate: str) -> str | None:
    """Return the base64url SHA-256 of the first certificate in URL-encoded PEM; None if it cannot be read."""
    match = _PEM.search(unquote(certificate)) if len(certificate) <= MAX_CERTIFICATE_CHARS else None
    try:
        return base64url.encode(hashlib.sha256(a2b_base64(match[1])).digest()).decode() if match else None
    except ValueError:  # binascii.Error is one
        return None


_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
