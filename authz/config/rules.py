"""One rule: the requests it matches, whom it allows, and the requirements for their tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from authz.config.pdp import PdpQuestion
from authz.config.section import Duration, Items, Section, Setting, Word
from authz.core.conditions import Condition, compile_condition, find_risk
from authz.core.policy import AccessMode, HostPattern, PathTemplate
from authz.core.request import AmbiguousEncoding
from authz.core.risk import ASSESSMENT


def _parse_claim_value(value: object) -> str | int | float | bool:
    if not isinstance(value, str | int | float):
        raise ValueError("must be text, a number, true or false")  # noqa: TRY004 - pydantic collects these
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


ClaimValue = Annotated[
    str | int | float | bool,
    PlainValidator(_parse_claim_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


class Match(Section):
    """Which requests a rule is for: all that is given must hold."""

    hosts: Items[str] | None = None
    """Hosts, without port; `*.` in front is any subdomain."""
    paths: Items[str] | None = None
    """{name} is one segment, a final /** any depth, none included; a trailing slash is insignificant."""
    methods: Items[str] | None = None
    """HTTP methods, in upper case."""
    case_insensitive: Annotated[bool | None, Field(examples=[True])] = None
    """Ignore letter case; the default is paths.case_insensitive."""
    context: Mapping[str, str] | None = None
    """context_extensions of Envoy's route."""

    @cached_property
    def templates(self) -> tuple[PathTemplate, ...]:
        """The paths, parsed once; every path if none is given. Raises ValueError."""
        return tuple(map(PathTemplate.parse, self.paths or ("/**",)))

    @cached_property
    def host_patterns(self) -> tuple[HostPattern, ...]:
        """The hosts, parsed once. Raises ValueError."""
        return tuple(map(HostPattern.parse, self.hosts or ()))


class StepUp(Section):
    """The authentication that is required of a risky request: all that is given must hold."""

    acr: Items[str] | None = None
    """Authentication context classes, one of which the token has (RFC 9470)."""
    amr: Items[str] | None = None
    """Authentication methods, one of which it names (RFC 8176)."""
    max_age: Annotated[Duration | None, Setting(bounds=("1s", "87600h"))] = None
    """Longest time since auth_time."""


class RequireRisk(Section):
    """What is required beside the token: all that is given must hold, else step_up, else the answer is 403."""

    max_failures_1m: Annotated[int | None, Setting(bounds=("0", "1000000"))] = None
    """Bad tokens of the client's network in the last minute, counted by this worker; which network: clients."""
    max_failures_1h: Annotated[int | None, Setting(bounds=("0", "1000000"))] = None
    """Bad tokens of the client's network in the last hour."""
    max_subject_failures_1m: Annotated[int | None, Setting(bounds=("0", "1000000"))] = None
    """Denied requests of the token's subject in the last minute: scopes, claims, proofs, revocation."""
    max_subject_failures_1h: Annotated[int | None, Setting(bounds=("0", "1000000"))] = None
    """Denied requests of the token's subject in the last hour."""
    known_network: bool = False
    """No network from which the subject was never accepted by such a rule, if it was from others."""
    max_score: float | None = None
    """Highest score that the engine (risk) may give."""
    levels: Items[str] | None = None
    """Levels, one of which the engine (risk) gives."""
    step_up: StepUp | None = None
    """The authentication that is required if something else here does not hold (RFC 9470)."""


class Require(Section):
    """What a token must contain: all that is given must hold."""

    issuers: Items[str] | None = None
    """Names of issuers, one of which issued the token."""
    audiences: Items[str] | None = None
    """Audiences, one of which it names."""
    scopes: Items[str] | None = None
    """Scopes, all of which it has."""
    any_scope: Annotated[Items[str] | None, Field(examples=[["orders:read", "orders:write"]])] = None
    """Scopes, one of which it has."""
    claims: Mapping[str, Items[ClaimValue]] | None = None
    """Claim paths, or names of the issuer's claims; each has one of the values, of the same type."""
    all_of: Mapping[str, Items[ClaimValue]] | None = None
    """The same; each is a list with all of the values."""
    acr: Items[str] | None = None
    """Authentication context classes, one of which it has (RFC 9470)."""
    amr: Items[str] | None = None
    """Authentication methods, one of which it names (RFC 8176)."""
    bound: bool = False
    """A token that is bound to a key (DPoP) or a certificate (mTLS), which the request proves to hold."""
    max_age: Annotated[Duration | None, Setting(bounds=("1s", "87600h"))] = None
    """Longest time since auth_time."""
    risk: RequireRisk | None = None
    """What is known of the client beside its token."""
    when: str | None = None
    """A condition in CEL; an error denies."""
    pdp: PdpQuestion | None = None
    """What a policy decision point must allow; asked last. A text is the name of one of pdps."""

    @cached_property
    def condition(self) -> Condition | None:
        """The condition, compiled once. Raises ConditionError."""
        return compile_condition(self.when) if self.when is not None else None


def asks_engine(require: Require) -> bool:
    """Return whether a rule reads what the risk engine says."""
    wanted = require.risk
    by_limit = wanted is not None and (wanted.max_score is not None or wanted.levels is not None)
    return by_limit or not set(ASSESSMENT).isdisjoint(find_risk(require.when or ""))


class Rule(Section):
    """One rule; the first that matches decides, and no match denies."""

    name: str = ""
    """Its name in metrics and logs; by default `rule-N`, its place in the list from 1."""
    match: Match | None = None
    """Which requests it is for; without it, every request."""
    allow: Word[AccessMode] = AccessMode.AUTHENTICATED
    """Whom it admits; optional applies the requirements if there is a token."""
    accept: Annotated[Items[Word[AmbiguousEncoding]] | None, Setting(envoy=True)] = None
    """Ambiguous path encodings that are taken as data of one segment."""
    require: Require | None = None
    """What the token must contain."""
    upstream_audience: Items[str] | None = None
    """The aud of the token for the upstream (identity.token), in place of its own."""
    shadow: Annotated[bool, Setting(risk="the rule only reports: requests that it would deny are allowed")] = False
    """Report what it would deny, and allow it."""
