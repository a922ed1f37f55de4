"""Build the core's objects from a validated configuration. A configuration that `load` accepted cannot fail here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from authz.config import model
from authz.config.build_issuers import build_issuers, build_proof_rules, digest_settings
from authz.config.clients import Clients
from authz.config.introspection import IntrospectionKind
from authz.config.pdp import CREDENTIALS, PdpQuestion
from authz.config.pdp import Pdp as PdpSection
from authz.config.rules import ClaimValue, Require, RequireRisk, asks_engine
from authz.config.rules import Match as MatchSection
from authz.config.rules import Rule as RuleSection
from authz.config.upstream_token import TokenClaim
from authz.core.claims import ClaimPath
from authz.core.client_network import NetworkRules
from authz.core.conditions import find_risk
from authz.core.decision import BEARER
from authz.core.dpop import SCHEME, Possession
from authz.core.exchange import Exchange
from authz.core.identity import ClaimHeader, ConstantHeader, HeaderRule, Identity, MetadataClaim, PayloadHeader
from authz.core.keys import VerifySignature, verify_by_keys
from authz.core.minting import CopiedValue, FixedValue, MintedClaim, Minting
from authz.core.pdp import ExternalDecision, Pdp
from authz.core.policy import Match, Policy, Rule
from authz.core.requirements import ClaimRequirement, Requirements, RiskRequirement
from authz.core.resource_metadata import ProtectedResource
from authz.core.risk import Assessment, RiskEngine
from authz.core.snapshot import ParseToken, Responses, Snapshot, TokenRules
from authz.core.throttle import ClientRules, Throttle
from authz.core.token import CookieSource, HeaderSource, QuerySource, Source, parse_token


def build_snapshot(
    config: model.Config,
    *,
    parse_token: ParseToken = parse_token,
    verify_signature: VerifySignature = verify_by_keys,
    nonce_secret: bytes | None = None,
    pause: Callable[[], None] = lambda: None,
) -> Snapshot:
    """Return the initial snapshot of *config*, with only the keys in the file itself.

    Without a *nonce_secret* no nonces are made, and none are accepted. *pause* is called before each rule.
    """
    proofs = build_proof_rules(config.dpop, nonce_secret)
    modes = {issuer.dpop for issuer in config.issuers.values()}
    return Snapshot(
        issuers={
            issuer.rules.issuer: issuer
            for name, section in config.issuers.items()
            for issuer in build_issuers(name, section, proofs)
        },
        policy=Policy(_iterate_rules(config, pause)),
        identity=_build_identity(config),
        token=_build_token_rules(config, modes),
        responses=Responses(
            realm=config.responses.realm,
            body=config.responses.body,
            expose_reason=config.responses.expose_reason,
            unavailable=config.responses.unavailable,
            resource=build_resource(config),
            proof_algorithms=config.dpop.algorithms if _takes_proofs(modes) else (),
        ),
        shadow_all=config.insecure.shadow_all,
        parse_token=parse_token,
        verify_signature=verify_signature,
        opaque=build_opaque(config),
        clients=build_clients(config),
        risk=build_risk(config),
        minting=build_minting(config),
        exchange=build_exchange(config),
    )


def _takes_proofs(modes: set[Possession]) -> bool:
    """Return whether tokens of an issuer may be sent with a proof (DPoP); *modes* are those of all issuers."""
    return modes != {Possession.OFF}


def _build_identity(config: model.Config) -> Identity:
    aliases, section = config.claim_aliases, config.identity
    return Identity(
        tuple(_build_header(name, value, aliases) for name, value in section.headers.items()),
        metadata=tuple(MetadataClaim(name, _path(name, aliases)) for name in section.metadata),
        unsafe_values=section.unsafe_values,
        token_header=section.token.header if section.token is not None else None,
    )


def _build_token_rules(config: model.Config, modes: set[Possession]) -> TokenRules:
    by_proof = _takes_proofs(modes)
    return TokenRules(
        sources=tuple(_build_sources(config, by_proof=by_proof)),
        max_bytes=config.token.max_bytes,
        forward=config.forwards_token,
        schemes=(*(BEARER if modes != {Possession.REQUIRED} else ()), *((SCHEME,) if by_proof else ())),
        strip_proofs=by_proof and not config.dpop.forward,
    )


def build_risk(config: model.Config) -> RiskEngine | None:
    """Return the risk engine, or None."""
    section = config.risk
    if section is None:
        return None
    error = section.on_error
    return RiskEngine(
        source=digest_settings(section.model_dump(mode="json", exclude={"on_error"})),
        headers=section.send_headers,
        networks=build_networks(config.clients),
        on_error=None if error is None else Assessment(error.level, error.score),
    )


def build_clients(config: model.Config) -> ClientRules | None:
    """Return which network a client counts as, and its limits; or None if nothing is counted."""
    section, throttle = config.clients, config.throttle
    if throttle is None and not any(rule.require and _reads_risk(rule.require) for rule in config.rules):
        return None
    return ClientRules(
        networks=build_networks(section),
        throttle=None
        if throttle is None
        else Throttle(failures=throttle.failures, window=throttle.window.total_seconds(), shadow=throttle.shadow),
    )


def build_networks(section: Clients) -> NetworkRules:
    """Return which address a client has, and which network it counts as."""
    return NetworkRules(
        ipv4_prefix=section.ipv4_prefix, ipv6_prefix=section.ipv6_prefix, trusted_proxies=section.proxies
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
        digest=config.digest,
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
    return Exchange(
        issuer=section.issuer,
        source=digest_settings(
            (issuer.issuer, issuer.discovery_url, section.url, section.client.id, section.token_type)
        ),
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
    """Return the prefixes of opaque tokens and the issuers that introspect them, the longest prefix first."""
    prefixes = (
        (section.introspection.token_prefix, section.issuer)
        for section in config.issuers.values()
        if section.introspection is not None and section.introspection.kind is IntrospectionKind.RFC7662
    )
    return tuple(sorted(prefixes, key=lambda pair: len(pair[0]), reverse=True))


def build_rules(config: model.Config) -> list[Rule]:
    """Return the rules in their order."""
    return list(_iterate_rules(config, lambda: None))


def _iterate_rules(config: model.Config, pause: Callable[[], None]) -> Iterator[Rule]:
    pdps = build_pdps(config)
    for rule in config.rules:
        pause()
        yield _build_rule(rule, config, pdps)


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


def build_pdps(config: model.Config) -> dict[str, Pdp]:
    """Return the PDPs by name."""
    credentials = _CREDENTIALS | {source.header for source in config.token.sources if source.header is not None}
    return {name: _build_pdp(name, section, credentials) for name, section in config.pdps.items()}


_CREDENTIALS: Final = frozenset({"authorization", "cookie", "dpop", "proxy-authorization"})


def _build_pdp(name: str, section: PdpSection, credentials: frozenset[str]) -> Pdp:
    return Pdp(
        name=name,
        source=digest_settings((section.kind, section.url, *(getattr(section, key) for key in CREDENTIALS))),
        kind=section.kind,
        id_encoding=section.id_encoding,
        allow_on_error=section.insecure.allow_on_error,
        expose_reason=section.expose_reason_user,
        excluded_headers=credentials,
    )


def _build_external(question: PdpQuestion | None, pdps: Mapping[str, Pdp]) -> ExternalDecision | None:
    if question is None:
        return None
    return ExternalDecision(
        pdps[question.name],
        question.subject.entity,
        question.action.action,
        question.resource.entity,
        question.context_template,
    )


def _build_rule(section: RuleSection, config: model.Config, pdps: Mapping[str, Pdp]) -> Rule:
    match, aliases = section.match or _EVERY_REQUEST, config.claim_aliases
    ignore_case = match.case_insensitive
    return Rule(
        name=section.name,
        match=Match(
            paths=match.templates,
            hosts=match.host_patterns,
            methods=frozenset(match.methods or ()),
            context=dict(match.context) if match.context else _NO_CONTEXT,
            case_insensitive=config.paths.case_insensitive if ignore_case is None else ignore_case,
        ),
        allow=section.allow,
        requirements=_build_requirements(section.require, aliases, pdps) if section.require else _NO_REQUIREMENTS,
        accept=frozenset(section.accept or ()),
        shadow=section.shadow,
        upstream_audiences=section.upstream_audience or (),
    )


def _reads_risk(section: Require) -> bool:
    return section.risk is not None or any(find_risk(section.when or ""))


def _build_risk(section: Require) -> RiskRequirement | None:
    if not _reads_risk(section):
        return None
    required, read = section.risk or RequireRisk(), set(find_risk(section.when or ""))
    step_up = required.step_up
    return RiskRequirement(
        max_failures_1m=required.max_failures_1m,
        max_failures_1h=required.max_failures_1h,
        max_subject_failures_1m=required.max_subject_failures_1m,
        max_subject_failures_1h=required.max_subject_failures_1h,
        known_network=required.known_network,
        max_score=required.max_score,
        levels=required.levels or (),
        asks_engine=asks_engine(section),
        step_up=None
        if step_up is None
        else Requirements(acr=step_up.acr or (), amr=step_up.amr or (), max_age=_seconds(step_up.max_age)),
        condition=section.condition if read else None,
    )


def _build_requirements(section: Require, aliases: frozenset[str], pdps: Mapping[str, Pdp]) -> Requirements:
    risk = _build_risk(section)
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
        condition=section.condition if risk is None or risk.condition is None else None,
        condition_reads=(ClaimPath(("sub",)),) if _READS_SUBJECT.search(section.when or "") else (),
        external=_build_external(section.pdp, pdps),
        risk=risk,
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
_NO_REQUIREMENTS: Final = Requirements()  # most rules have none: each would take 150 octets
_NO_CONTEXT: Final[Mapping[str, str]] = {}
