"""The input of the binding step: the confirmation of the token, and the sender's certificate or proof."""

from __future__ import annotations

from typing import Final

from authz.core import base64url
from authz.core.binding import uses_dpop
from authz.core.dpop import MAX_PROOF_CHARS, Possession
from authz.core.issuer import Issuer
from authz.core.jwk_validation import public_part
from authz.core.key import thumbprint_of
from authz.core.reasons import Rejected
from authz.core.request import Request
from authz.core.strictjson import parse_object
from authz.core.token import FoundToken, parse_token

_MAX_CHARS: Final = 60  # of what a proof says


def describe_binding(cnf: object, found_token: FoundToken, request: Request, issuer: Issuer, now: float) -> str:
    """Describe the input of the step. What the proof says is not verified; it is never shown as a whole."""
    proof, by_proof = request.headers.get("dpop"), uses_dpop(found_token)
    if cnf is None and proof is None and not by_proof:
        return "no cnf"
    parts = [_describe_confirmation(cnf)]
    if isinstance(cnf, dict) and "x5t#S256" in cnf:
        parts.append("the peer's certificate" if request.certificate else "no certificate of the peer")
    if proof is not None:
        beside = "" if by_proof else " beside a bearer token"
        parts.append(f"a proof{beside} ({_describe_proof(proof, cnf, now)})")
    elif by_proof:
        parts.append("no proof")
    if by_proof and issuer.possession is not Possession.OFF:
        urls = issuer.proofs.urls(request.host, request.path.partition("?")[0])
        parts.append(f"for {request.method} {' or '.join(urls)}")
    return "; ".join(parts)


def _describe_confirmation(cnf: object) -> str:
    if cnf is None:
        return "no cnf"
    if not isinstance(cnf, dict):
        return "cnf is no object"
    return f"cnf {', '.join(f'jkt {_cut(cnf[name])}' if name == 'jkt' else _cut(name) for name in cnf) or 'empty'}"


def _describe_proof(text: str, cnf: object, now: float) -> str:
    try:
        parsed = parse_token(text, max_bytes=MAX_PROOF_CHARS, cached=False)
        members = parsed.members
    except Rejected:
        return "unreadable"
    jwk = parse_object(base64url.decode(text.partition(".")[0].encode())).get("jwk")
    key = thumbprint_of(public_part(jwk)) if isinstance(jwk, dict) else None
    key_text = (
        "the key in cnf" if key and isinstance(cnf, dict) and cnf.get("jkt") == key else f"key {key or 'unusable'}"
    )
    iat = members.get("iat")
    age = f"made {now - iat:.0f} s ago" if isinstance(iat, int | float) else "no iat"
    return ", ".join([key_text, age, f"{_cut(members.get('htm'))} {_cut(members.get('htu'))}"])


def _cut(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}..."
