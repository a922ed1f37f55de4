"""Build the core's objects from a validated configuration. A configuration that `load` accepted cannot fail here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Final

from authz.config import model
from authz.config.dpop import Dpop, NonceUse
from authz.config.issuer import Issuer as IssuerSection
from authz.config.rules import ClaimValue, Require
from authz.config.rules import Match as MatchSection
from authz.config.rules import Rule as RuleSection
from authz.config.upstream_token import TokenClaim
from authz.core.claims import ClaimPath, ClaimRules, normalize_type
from authz.core.decision import BEARER
from authz.core.dpop import SCHEME, Nonces, Possession, ProofRules
from authz.core.exchange import Exchange
from authz.core.identity import ClaimHeader, ConstantHeader, CopiedClaim, HeaderRule, Identity, PayloadHeader
from authz.core.introspection import PROOFS, Introspection, Proof
from authz.core.issuer import Issuer
from authz.core.keys import KeySet, VerifySignature, compute
from authz.core.minting import CopiedValue, FixedValue, MintedClaim, Minting
from authz.core.policy import ClaimRequirement, Match, Policy, Requirements, Rule
from authz.core.resource import ProtectedResource
from authz.core.snapshot import Responses, Snapshot, TokenRules
from authz.core.token import CookieSource, HeaderSource, QuerySource, Source


def build_snapshot(
    config: model.Config, *, verify_signature: VerifySignature = compute, nonce_secret: bytes | None = None
) -> Snapshot:
    """Return the initial snapshot of *config*, with only the keys in the file itself.

    Without a *nonce_secret* no nonces are made, and none are accepted.
    """
    aliases = config.claim_aliases
    proofs = _build_proof_rules(config.dpop, nonce_secret)
    modes = {issuer.dpop for issuer in config.issuers.values()}
    by_proof = modes != {Possession.OFF}
    return Snapshot(
        issuers={
            issuer.rules.issuer: issuer
            for name, section in config.issuers.items()
            for issuer in _build_issuers(name, section, proofs)
        },
        policy=Policy(build_rules(config)),
        identity=Identity(
            tuple(_build_header(name, value, aliases) for name, value in config.identity.headers.items()),
            copied=tuple(CopiedClaim(name, _path(name, aliases)) for name in config.identity.metadata),
            unsafe_values=config.identity.unsafe_values,
            token_header=config.identity.token.header if config.identity.token is not None else None,
        ),
        token=TokenRules(
            sources=tuple(_build_sources(config, by_proof=by_proof)),
            max_bytes=config.token.max_bytes,
            forward=config.token.forward,
            schemes=(*(BEARER if modes != {Possession.REQUIRED} else ()), *((SCHEME,) if by_proof else ())),
            strip_proofs=by_proof and not config.dpop.forward,
        ),
        responses=Responses(
            realm=config.responses.realm,
            body=config.responses.body,
            expose_reason=config.responses.expose_reason,
            unavailable=config.responses.unavailable,
            resource=build_resource(config),
            proof_algorithms=config.dpop.algorithms if by_proof else (),
        ),
        shadow_all=config.insecure.shadow_all,
        verify_signature=verify_signature,
        opaque=build_opaque(config),
        minting=build_minting(config),
        exchange=build_exchange(config),
    )


def build_minting(config: model.Config) -> Minting | None:
    """Return how tokens for the upstream are minted; which key signs them is not in the configuration."""
    section = config.identity.minted
    if section is None:
        return None
    return Minting(
        header=section.header,
        format=section.format,
        lifetime=section.lifetime.total_seconds(),
        # Whatever changes, the tokens that were minted before are not used again.
        digest=sha256(config.model_dump_json().encode()).hexdigest(),
        audiences=section.audience,
        issuer=section.issuer,
        scope=section.scope,
        claims=tuple(_build_claim(name, claim, config.claim_aliases) for name, claim in section.claims.items()),
        workload=section.workload or "",
        shadowed=section.shadowed,
        reused=section.reused,
    )


def build_exchange(config: model.Config) -> Exchange | None:
    """Return how tokens for the upstream are exchanged."""
    token, section = config.identity.token, config.identity.exchange
    if token is None or section is None:
        return None
    issuer = config.issuers[section.issuer]
    asked = (issuer.issuer, issuer.discovery_url, section.url, section.client.id, section.token_type)
    return Exchange(
        issuer=section.issuer,
        source=sha256(json.dumps(asked).encode()).hexdigest(),
        subjects=frozenset(section.subjects or (section.issuer,)),
        audiences=token.audience,
        scope=token.scope,
        shadowed=token.shadowed,
    )


def _build_claim(name: str, section: TokenClaim, aliases: frozenset[str]) -> MintedClaim:
    path = ClaimPath.parse(name)
    if section.request is not None:
        return MintedClaim(path, section.request)
    if section.claim is not None:
        return MintedClaim(path, CopiedValue(section.claim, _path(section.claim, aliases)))
    return MintedClaim(path, FixedValue(section.value if section.value is not None else ""))


def build_opaque(config: model.Config) -> tuple[tuple[str, str], ...]:
    """Return what opaque tokens begin with, and who is asked about them; the longest beginning is first."""
    asked = (
        (section.introspection.token_prefix, section.issuer)
        for section in config.issuers.values()
        if section.introspection is not None
    )
    return tuple(sorted(asked, key=lambda pair: len(pair[0]), reverse=True))


def build_rules(config: model.Config) -> list[Rule]:
    """Return the rules in their order."""
    return [_build_rule(rule, config) for rule in config.rules]


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


def build_resource(config: model.Config) -> ProtectedResource | None:
    """Return the metadata that the sidecar serves (RFC 9728). Raises ValueError for an ambiguous identifier."""
    if config.resource is None:
        return None
    by_header = any(source.scheme.lower() == "bearer" for source in config.token.sources)
    modes = {issuer.dpop for issuer in config.issuers.values()}
    by_query = config.insecure.query_token is not None
    return ProtectedResource.describe(
        config.resource.identifier,
        # RFC 8414 section 2: an issuer that is not an https URL has no metadata.
        authorization_servers=tuple(
            iss for issuer in config.issuers.values() for iss in issuer.accepted_issuers if iss.startswith("https://")
        ),
        scopes=config.resource.scopes,
        methods=(*(["header"] if by_header else []), *(["query"] if by_query else [])),
        proof_algorithms=config.dpop.algorithms if modes != {Possession.OFF} else (),
        bound_only=modes == {Possession.REQUIRED},
    )


def _build_proof_rules(section: Dpop, nonce_secret: bytes | None) -> ProofRules:
    return ProofRules(
        algorithms=frozenset(section.algorithms),
        origins=tuple(origin.rstrip("/") for origin in section.origins),
        max_age=section.max_age.total_seconds(),
        max_ahead=section.max_ahead.total_seconds(),
        nonces=Nonces(nonce_secret) if nonce_secret is not None else None,
        require_nonce=section.nonces is NonceUse.ALWAYS,
    )


def _build_issuers(name: str, section: IssuerSection, proofs: ProofRules) -> Iterator[Issuer]:
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
        )


def _build_introspection(section: IssuerSection) -> Introspection | None:
    wanted = section.introspection
    if wanted is None:
        return None
    proof: Proof = {name: frozenset(map(str.lower, values)) for name, values in wanted.token_proof.items()}
    grounds = (section.issuer, section.discovery_url, wanted.url, wanted.client.model_dump(), wanted.signed)
    return Introspection(
        client=wanted.client.id or "",
        source=sha256(json.dumps(grounds).encode()).hexdigest(),
        mode=wanted.mode,
        proof=proof or PROOFS[wanted.token_kind.value],
        signed=wanted.signed,
    )


def _build_claim_rules(iss: str, section: IssuerSection) -> ClaimRules:
    return ClaimRules(
        issuer=iss,
        audiences=frozenset(section.audiences),
        audience_claim=section.audience_claim,
        token_types=frozenset(map(normalize_type, section.token_types)),
        required=section.required_claims,
        leeway=section.leeway.total_seconds(),
        max_lifetime=_seconds(section.max_lifetime),
        aliases={alias: ClaimPath.parse(path) for alias, path in section.claims.items()},
        any_audience=section.insecure.any_audience,
        no_expiry=section.insecure.no_expiry,
    )


def _build_sources(config: model.Config, *, by_proof: bool) -> Iterator[Source]:
    for source in config.token.sources:
        if source.header is not None:
            yield HeaderSource(source.header, source.scheme)
            if by_proof and source.scheme.lower() == BEARER[0].lower():
                yield HeaderSource(source.header, SCHEME)
        elif source.cookie is not None:
            yield CookieSource(source.cookie)
    if config.insecure.query_token is not None:
        yield QuerySource(config.insecure.query_token)


def _build_rule(section: RuleSection, config: model.Config) -> Rule:
    match, aliases = section.match or _EVERY_REQUEST, config.claim_aliases
    ignore_case = match.case_insensitive
    return Rule(
        name=section.name,
        match=Match(
            paths=match.templates,
            hosts=match.host_patterns,
            methods=frozenset(match.methods or ()),
            context=dict(match.context or {}),
            case_insensitive=config.paths.case_insensitive if ignore_case is None else ignore_case,
        ),
        allow=section.allow,
        requirements=_build_requirements(section.require, aliases) if section.require else Requirements(),
        accept=frozenset(section.accept or ()),
        shadow=section.shadow,
        upstream_audiences=section.upstream_audience or (),
    )


def _build_requirements(section: Require, aliases: frozenset[str]) -> Requirements:
    return Requirements(
        issuers=frozenset(section.issuers or ()),
        audiences=frozenset(section.audiences or ()),
        scopes=section.scopes or (),
        any_scope=section.any_scope or (),
        claims=(
            *_build_claims(section.claims or {}, aliases, every=False),
            *_build_claims(section.all_of or {}, aliases, every=True),
        ),
        acr=section.acr or (),
        amr=section.amr or (),
        max_age=_seconds(section.max_age),
        bound=section.bound,
        condition=section.condition,
        condition_reads=(ClaimPath(("sub",)),) if _READS_SUBJECT.search(section.when or "") else (),
    )


# `sub` must be a string here: for a number, `claims.sub != "root"` would be true.
_READS_SUBJECT: Final = re.compile(r"""\bclaims\s*(?:\.\s*sub\b|\[\s*r?["']sub["']\s*\])""")


def _build_claims(
    wanted: Mapping[str, tuple[ClaimValue, ...]], aliases: frozenset[str], *, every: bool
) -> Iterator[ClaimRequirement]:
    for name, values in wanted.items():
        yield ClaimRequirement(name, _path(name, aliases), values, every)


def _build_header(header: str, section: model.HeaderValue, aliases: frozenset[str]) -> HeaderRule:
    if section.value is not None:
        return ConstantHeader(header=header, value=section.value)
    if section.payload is not None:
        return PayloadHeader(header=header, format=section.payload)
    claim = section.claim or ""
    return ClaimHeader(header=header, name=claim, path=_path(claim, aliases), format=section.format, join=section.join)


def _path(name: str, aliases: frozenset[str]) -> ClaimPath:
    """Parse a claim path; an alias is, for issuers that do not define it, a claim of that name."""
    return ClaimPath((name,)) if name in aliases else ClaimPath.parse(name)


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


_EVERY_REQUEST: Final = MatchSection()
