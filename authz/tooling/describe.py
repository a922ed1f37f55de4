"""Describe rules and keys in words, for people."""

from __future__ import annotations

from collections.abc import Iterable

from authz.core.keys import Key
from authz.core.policy import Rule
from authz.core.requirements import Requirements, RiskRequirement


def describe_rule(rule: Rule) -> str:
    """Describe whom a rule allows, and what it requires."""
    shadow = ", in shadow" if rule.shadow else ""
    requirements = list(_asked(rule.requirements))
    return f"{rule.allow}{shadow}" + (f" with {'; '.join(requirements)}" if requirements else "")


def describe_requirements(wanted: Requirements) -> str:
    """Describe what a rule requires."""
    return "; ".join(_asked(wanted)) or "nothing more is required"


def describe_key(key: Key) -> str:
    """Describe a key: its id, kind and thumbprint."""
    return f"kid {key.kid or 'absent'}, {key.kty} of {key.bits} bits, thumbprint {key.thumbprint}"


def enumerate_words(words: Iterable[str]) -> str:
    """Join words with commas; those of a set are sorted."""
    return ", ".join(sorted(words) if isinstance(words, frozenset) else words)


def _risky(wanted: RiskRequirement) -> Iterable[str]:
    for name in ("failures_1m", "failures_1h", "subject_failures_1m", "subject_failures_1h"):
        if (limit := getattr(wanted, f"max_{name}")) is not None:
            yield f"at most {limit} {name}"
    if wanted.known_network:
        yield "a known network"
    if wanted.max_score is not None:
        yield f"a risk score of at most {wanted.max_score:g}"
    if wanted.levels:
        yield f"risk level {enumerate_words(wanted.levels)}"
    if wanted.step_up is not None:
        yield f"else {describe_requirements(wanted.step_up)}"
    if wanted.condition is not None:
        yield f"when {getattr(wanted.condition, 'text', 'a condition holds')}"


def _asked(wanted: Requirements) -> Iterable[str]:
    for name, values in (
        ("issuers", sorted(wanted.issuers)),
        ("audiences", sorted(wanted.audiences)),
        ("scopes", wanted.scopes),
        ("any scope of", wanted.any_scope),
        ("acr", wanted.acr),
        ("amr", wanted.amr),
    ):
        if values:
            yield f"{name} {enumerate_words(values)}"
    for claim in wanted.claims:
        yield f"claim {claim.name} {'all' if claim.every else 'one'} of {enumerate_words(map(str, claim.values))}"
    if wanted.max_age is not None:
        yield f"authenticated within {wanted.max_age:g} s"
    if wanted.risk is not None:
        yield from _risky(wanted.risk)
    if wanted.condition is not None:
        yield f"when {getattr(wanted.condition, 'text', 'a condition holds')}"
    if wanted.external is not None:
        yield f"allowed by pdp {wanted.external.pdp.name}"
