"""Build issuers from their sections of a validated configuration, with the keys in the file itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

from authz.config.dpop import Dpop, NonceUse
from authz.config.introspection import IntrospectionKind
from authz.config.issuer import Issuer as IssuerSection
from authz.core.claims import ClaimPath, ClaimRules, normalize_type
from authz.core.dpop import Nonces, ProofRules
from authz.core.introspection import ACCESS_TOKEN_PROOFS, AccessTokenProof, Introspection
from authz.core.issuer import Issuer, LogoutRules
from authz.core.keys import KeySet
from authz.core.status_list import StatusRules


def build_issuers(name: str, section: IssuerSection, proofs: ProofRules) -> Iterator[Issuer]:
    """Yield an issuer for each `iss` that *section* accepts; they have one name and one set of keys."""
    keys = inline_keys(section)
    for iss, tenant in zip(section.accepted_issuers, section.tenants or (None,), strict=True):
        yield Issuer(
            name,
            frozenset(section.algorithms),
            _build_claim_rules(iss, section),
            keys,
            section.algorithms_configured,
            tenant,
            _build_introspection(section),
            possession=section.dpop,
            proofs=replace(proofs, require_ath=not section.insecure.dpop_without_ath),
            logout=LogoutRules(frozenset(section.logout.clients), section.logout.revokes) if section.logout else None,
            status_list=_build_status_rules(section),
        )


def build_proof_rules(section: Dpop, nonce_secret: bytes | None) -> ProofRules:
    """Return how proofs of possession are checked; without a *nonce_secret* no nonce is made or accepted."""
    return ProofRules(
        algorithms=frozenset(section.algorithms),
        origins=tuple(origin.rstrip("/") for origin in section.origins),
        max_age=section.max_age.total_seconds(),
        max_ahead=section.max_ahead.total_seconds(),
        nonces=Nonces(nonce_secret) if nonce_secret is not None else None,
        require_nonce=section.nonces is NonceUse.ALWAYS,
    )


def read_inline_keys(issuer: IssuerSection) -> KeySet | None:
    """Return the keys in the file, or None if the issuer has another source of keys. Raises ValueError."""
    if issuer.jwks is None:
        return None
    document = json.dumps({"keys": [dict(key) for key in issuer.jwks.keys]})
    return KeySet.from_json(
        document,
        max_keys=issuer.fetch.max_keys,
        max_bytes=issuer.fetch.max_bytes,
        x5c_mismatch=issuer.insecure.x5c_mismatch,
    )


def inline_keys(issuer: IssuerSection) -> KeySet | None:
    """Return the keys in the file, without the blocked ones. Raises ValueError."""
    keys = read_inline_keys(issuer)
    return keys.block(issuer.blocked_keys) if keys is not None else None


def digest_settings(settings: object) -> str:
    """Return a digest of all that decides what a source answers, so that no answer is used after a change of it."""
    return sha256(json.dumps(settings).encode()).hexdigest()


def _build_introspection(section: IssuerSection) -> Introspection | None:
    wanted = section.introspection
    if wanted is None:
        return None
    proof: AccessTokenProof = {name: frozenset(map(str.lower, values)) for name, values in wanted.token_proof.items()}
    by_token_review = wanted.kind is IntrospectionKind.TOKEN_REVIEW
    settings = [section.issuer, section.discovery_url, wanted.url, wanted.client.model_dump(), wanted.signed]
    settings += [wanted.kind, *section.audiences] if by_token_review else []
    return Introspection(
        client=wanted.client.id or "",
        source=digest_settings(settings),
        mode=wanted.mode,
        proof={} if by_token_review else proof or ACCESS_TOKEN_PROOFS[wanted.token_kind.value],
        signed=wanted.signed,
    )


def _build_status_rules(section: IssuerSection) -> StatusRules | None:
    wanted = section.status_list
    if wanted is None:
        return None
    return StatusRules(
        uris=wanted.uris,
        accepted=frozenset(wanted.accepted),
        required=wanted.required,
        own_keys=wanted.jwks_uri is not None,
    )


def _build_claim_rules(iss: str, section: IssuerSection) -> ClaimRules:
    return ClaimRules(
        issuer=iss,
        audiences=frozenset(section.audiences),
        audience_claim=section.audience_claim,
        token_types=frozenset(map(normalize_type, section.token_types)),
        required=section.required_claims,
        leeway=section.leeway.total_seconds(),
        max_lifetime=None if section.max_lifetime is None else section.max_lifetime.total_seconds(),
        aliases={alias: ClaimPath.parse(path) for alias, path in section.claims.items()},
        any_audience=section.insecure.any_audience,
        no_expiry=section.insecure.no_expiry,
    )
