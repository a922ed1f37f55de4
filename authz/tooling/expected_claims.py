"""The claims that rules require in an issuer's tokens, with their types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from authz.core.issuer import Issuer
from authz.core.mismatch import type_name
from authz.core.policy import Rule
from authz.core.requirements import ClaimRequirement, Requirements

MAX_RULES: Final = 4  # listed for one claim


def describe_expected_claims(issuer: Issuer, rules: tuple[Rule, ...]) -> Iterator[str]:
    """Yield a line for each claim that rules require in tokens of *issuer*: its path, its type, and the rules."""
    users: defaultdict[str, list[str]] = defaultdict(list)
    for rule in rules:
        if not rule.requirements.issuers or issuer.name in rule.requirements.issuers:
            for line in dict.fromkeys(_describe(rule.requirements, issuer)):
                users[line].append(rule.name)
    for line, names in users.items():
        more = f" and {len(names) - MAX_RULES} more" if len(names) > MAX_RULES else ""
        yield f"{line}; rule {', '.join(names[:MAX_RULES])}{more}"


def _describe(wanted: Requirements, issuer: Issuer) -> Iterator[str]:
    if wanted.scopes or wanted.any_scope:
        yield "scope, or else scp: a string of space-separated scopes, or a list of strings"
    for requirement in wanted.claims:
        yield _describe_claim(requirement, issuer)
    if wanted.acr:
        yield "acr: a string"
    if wanted.amr:
        yield "amr: a list of strings"
    if wanted.max_age is not None:
        yield "auth_time: a number of seconds since 1970"


def _describe_claim(requirement: ClaimRequirement, issuer: Issuer) -> str:
    path = issuer.rules.aliases.get(requirement.name, requirement.path)
    types = sorted({type_name(value) for value in requirement.values})
    one, several = " or ".join(types), " or ".join(f"{name}s" for name in types)
    return f"{path}: a list of {several}" if requirement.every else f"{path}: a {one}, or a list of {several}"
