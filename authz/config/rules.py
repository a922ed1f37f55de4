"""One rule: the requests it matches, who is let through, and what their tokens must say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from authz.config.section import Duration, Items, Section, Setting, Word
from authz.core.conditions import Condition, compile_condition
from authz.core.policy import AccessMode, HostPattern, PathTemplate
from authz.core.request import AmbiguousEncoding


def _parse_claim_value(value: object) -> str | int | float | bool:
    if not isinstance(value, str | int | float):
        raise ValueError("must be text, a number, true or false")  # noqa: TRY004 - pydantic collects these
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a number that JSON can hold")
    return value


ClaimValue = Annotated[
    str | int | float | bool,
    PlainValidator(_parse_claim_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


class Match(Section):
    """Which requests a rule is for: all that is given here must hold."""

    hosts: Items[str] | None = None
    """Host names, `*.` in front for any subdomain; ports are not compared."""
    paths: Items[str] | None = None
    """Paths: {name} is one segment, a final /** any depth, none included; a trailing slash is insignificant."""
    methods: Items[str] | None = None
    """HTTP methods, in upper case."""
    case_insensitive: Annotated[bool | None, Field(examples=[True])] = None
    """Compare paths without regard to letter case; without this key, paths.case_insensitive says."""
    context: Mapping[str, str] | None = None
    """Values that Envoy's operator set for the route (context_extensions)."""

    @cached_property
    def templates(self) -> tuple[PathTemplate, ...]:
        """The paths, parsed once; every path if none is given. Raises ValueError."""
        return tuple(map(PathTemplate.parse, self.paths or ("/**",)))

    @cached_property
    def host_patterns(self) -> tuple[HostPattern, ...]:
        """The hosts, parsed once. Raises ValueError."""
        return tuple(map(HostPattern.parse, self.hosts or ()))


class Require(Section):
    """What a token must contain: all that is given here must hold."""

    issuers: Items[str] | None = None
    """Names of configured issuers, of which one must have issued the token."""
    audiences: Items[str] | None = None
    """Audiences of which the token must name one."""
    scopes: Items[str] | None = None
    """Scopes of which the token must have all."""
    any_scope: Annotated[Items[str] | None, Field(examples=[["orders:read", "orders:write"]])] = None
    """Scopes of which the token must have one."""
    claims: Mapping[str, Items[ClaimValue]] | None = None
    """Claim paths, or names from the issuer's claims; each must have one of the values, of the same type."""
    all_of: Mapping[str, Items[ClaimValue]] | None = None
    """Claim paths, or names from the issuer's claims; each must be a list with all of the values."""
    acr: Items[str] | None = None
    """Authentication context classes of which the token must have one (RFC 9470)."""
    amr: Items[str] | None = None
    """Authentication methods of which the token must name one (RFC 8176)."""
    max_age: Annotated[Duration | None, Setting(bounds=("1s", "87600h"))] = None
    """Longest time since the user authenticated (auth_time)."""
    when: str | None = None
    """A condition in CEL over claims, request, params, context and source; an error denies."""

    @cached_property
    def condition(self) -> Condition | None:
        """The condition, compiled once. Raises ConditionError."""
        return compile_condition(self.when) if self.when is not None else None


class Rule(Section):
    """One rule. The first rule whose match holds decides; a request that no rule matches is denied."""

    name: str = ""
    """The rule's name in metrics and logs; `rule-` and its place in the list, from 1, where none is given."""
    match: Match | None = None
    """Which requests the rule is for; every request where it is absent."""
    allow: Word[AccessMode] = AccessMode.AUTHENTICATED
    """Whom the rule admits; with optional, the requirements apply if there is a token."""
    accept: Annotated[Items[Word[AmbiguousEncoding]] | None, Setting(envoy=True)] = None
    """Path spellings, otherwise refused as ambiguous, that are taken as data of one segment."""
    require: Require | None = None
    """What the token must contain."""
    shadow: Annotated[bool, Setting(risk="the rule only reports: what it would deny passes")] = False
    """Report what this rule would deny, and allow it."""
