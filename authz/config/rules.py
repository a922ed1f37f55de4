"""One rule: the requests it matches, whom it allows, and the requirements for their tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

from authz.config.declaring import Field, PlainValidator, WithJsonSchema
from authz.config.pdp import PdpQuestion
from authz.config.section import Choice, Duration, Items, Section, Setting
from authz.core.conditions import Condition, compile_condition, find_risk
from authz.core.policy import AccessMode, HostPattern, PathTemplate
from authz.core.request import AmbiguousEncoding
from authz.core.risk import ASSESSMENT_FIELDS


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
    """Which requests a rule is for; all of it must hold."""

    hosts: Items[str] | None = None
    """Without port; `*.` is any subdomain."""
    paths: Items[str] | None = None
    """{name}: one segment; a final /**: any depth."""
    methods: Items[str] | None = None
    """In upper case."""
    case_insensitive: Annotated[bool | None, Field(examples=[True])] = None
    """Ignore letter case; default: of paths."""
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
    """Authentication that a risky request must have: all that is given must hold (RFC 9470)."""

    acr: Items[str] | None = None
    """As in require."""
    amr: Items[str] | None = None
    """As in require."""
    max_age: Annotated[Duration | None, Setting(bounds=("1s", "87600h"))] = None
    """As in require."""


class RequireRisk(Section):
    """All must hold; else step_up, or 403."""

    max_failures_1m: Annotated[int | None, Setting(bounds=("0", "1000000"))] = None
    """Bad tokens of the network in that time."""
    max_failures_1h: Annotated[int | None, Setting(bounds=("0", "1000000"))] = None
    """Bad tokens of the network in that time."""
    max_subject_failures_1m: Annotated[int | None, Setting(bounds=("0", "1000000"))] = None
    """Denials of the subject in that time."""
    max_subject_failures_1h: Annotated[int | None, Setting(bounds=("0", "1000000"))] = None
    """Denials of the subject in that time."""
    known_network: bool = False
    """Deny networks that are new for the subject."""
    max_score: float | None = None
    """Highest score."""
    levels: Items[str] | None = None
    """Accepted levels."""
    step_up: StepUp | None = None
    """Authentication that a risky request must have: all that is given must hold (RFC 9470)."""


class Require(Section):
    """All must hold."""

    issuers: Items[str] | None = None
    """One of these."""
    audiences: Items[str] | None = None
    """One of these."""
    scopes: Items[str] | None = None
    """All of these."""
    any_scope: Annotated[Items[str] | None, Field(examples=[["orders:read", "orders:write"]])] = None
    """One of these."""
    claims: Mapping[str, Items[ClaimValue]] | None = None
    """Claim paths, or names of the issuer's claims, each with one of its values."""
    all_of: Mapping[str, Items[ClaimValue]] | None = None
    """The same, with all values."""
    acr: Items[str] | None = None
    """One of these (RFC 9470, RFC 8176)."""
    amr: Items[str] | None = None
    """One of these (RFC 9470, RFC 8176)."""
    bound: bool = False
    """Bound to a key (DPoP) or certificate."""
    max_age: Annotated[Duration | None, Setting(bounds=("1s", "87600h"))] = None
    """Longest time since auth_time."""
    risk: RequireRisk | None = None
    """All must hold; else step_up, or 403."""
    when: str | None = None
    """Condition in CEL; an error denies."""
    pdp: PdpQuestion | None = None
    """What a PDP must allow; a text is its name. ${...}: claims, params, request, context, source, or CEL."""

    @cached_property
    def condition(self) -> Condition | None:
        """The condition, compiled once. Raises ConditionError."""
        return compile_condition(self.when) if self.when is not None else None


def asks_engine(require: Require) -> bool:
    """Return whether a rule reads what the risk engine says."""
    wanted = require.risk
    by_limit = wanted is not None and (wanted.max_score is not None or wanted.levels is not None)
    return by_limit or not set(ASSESSMENT_FIELDS).isdisjoint(find_risk(require.when or ""))


class Rule(Section):
    """One rule."""

    name: str = ""
    """In metrics and logs; default: `rule-N`."""
    match: Match | None = None
    """Which requests; default: all."""
    allow: Choice[AccessMode] = AccessMode.AUTHENTICATED
    """optional: require holds if there is a token."""
    accept: Annotated[Items[Choice[AmbiguousEncoding]] | None, Setting(envoy=True)] = None
    """Accepted path encodings."""
    require: Require | None = None
    """All must hold."""
    upstream_audience: Items[str] | None = None
    """aud of the upstream's token."""
    shadow: Annotated[bool, Setting(risk="the rule only reports: requests that it would deny are allowed")] = False
    """Report denials, but allow."""
