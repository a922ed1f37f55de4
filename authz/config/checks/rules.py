"""Checks of rules: what they match, and what they require."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from authz.config.checks.tokens import TOKEN, check_scopes
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote, suggest
from authz.config.rules import Match, Require, RequireRisk, Rule
from authz.config.section import Section
from authz.core.claims import ClaimPath
from authz.core.conditions import INSTALL, ConditionError, NotInstalledError, find_params
from authz.core.policy import AccessMode, HostPattern, PathTemplate

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,63}")


def check_rules(config: Config) -> Iterator[Problem]:
    """Report problems of each rule, and duplicate names."""
    if not config.rules:
        yield Problem(path=("rules",), message="must not be empty", hint="without a rule every request is denied")
    first: dict[str, int] = {}
    aliases = config.claim_aliases
    for index, rule in enumerate(config.rules):
        path: KeyPath = ("rules", index)
        if not _NAME.fullmatch(rule.name):
            message = "the name of a rule has at most 64 letters, digits and any of . _ : / -"
            yield Problem(path=(*path, "name"), message=message)
        elif rule.name in first:
            message = f"rules[{first[rule.name]}] is named {quote(rule.name)} already"
            yield Problem(path=(*path, "name"), message=message)
        first.setdefault(rule.name, index)
        yield from _check_allow(rule, path)
        if rule.match is not None:
            yield from _check_match(rule.match, (*path, "match"))
        if rule.require is not None:
            yield from _check_require(rule.require, (*path, "require"), config, aliases)
            yield from _check_params(rule, (*path, "require", "when"))


def check_claim(text: str, path: KeyPath, aliases: frozenset[str]) -> Iterator[Problem]:
    """Report what is neither a claim path nor an issuer's name for one."""
    try:
        if text not in aliases:
            ClaimPath.parse(text)
    except ValueError as error:
        yield Problem(path=path, message=str(error))


def _check_allow(rule: Rule, path: KeyPath) -> Iterator[Problem]:
    if rule.allow in {AccessMode.PUBLIC, AccessMode.DENY} and rule.require is not None:
        message = f"a rule with `allow: {rule.allow}` does not read the token, so it cannot require anything"
        yield Problem(path=(*path, "require"), message=message)
    if rule.accept is not None and rule.allow in {AccessMode.PUBLIC, AccessMode.DENY}:
        # With an ambiguous encoding, the upstream may serve a path outside the public part.
        message = f"ambiguous paths are never accepted with allow: {rule.allow}"
        yield Problem(path=(*path, "accept"), message=message)
    elif rule.accept == ():
        yield Problem(path=(*path, "accept"), message="must not be empty", hint="leave it out")


def _check_match(match: Match, path: KeyPath) -> Iterator[Problem]:
    yield from _check_not_empty(match, path, 'to match every request write paths: ["/**"]')
    try:
        match.host_patterns, match.templates  # noqa: B018 - parsed here, and kept for the build
    except ValueError:
        yield from _check_each(match.hosts or (), HostPattern.parse, (*path, "hosts"))
        yield from _check_each(match.paths or (), PathTemplate.parse, (*path, "paths"))
    for index, text in enumerate(match.methods or ()):
        # RFC 9110 section 9.1: methods are case-sensitive, and the standard ones are in upper case.
        if not TOKEN.fullmatch(text) or text != text.upper():
            yield Problem(path=(*path, "methods", index), message="must be a method in upper case", hint=_upper(text))


def _check_each(texts: tuple[str, ...], parse: Callable[[str], object], path: KeyPath) -> Iterator[Problem]:
    for index, text in enumerate(texts):
        try:
            parse(text)
        except ValueError as error:
            yield Problem(path=(*path, index), message=str(error))


def _upper(text: str) -> str:
    method = text.strip().upper()
    return f"did you mean `{method}`?" if TOKEN.fullmatch(method) else ""


def _check_require(require: Require, path: KeyPath, config: Config, aliases: frozenset[str]) -> Iterator[Problem]:
    yield from _check_not_empty(require, path, "an empty list of requirements is never met")
    for index, name in enumerate(require.issuers or ()):
        if name not in config.issuers:
            message = f"no issuer is named {quote(name)}"
            yield Problem(path=(*path, "issuers", index), message=message, hint=suggest(name, config.issuers))
    for key in ("audiences", "amr"):
        for index, text in enumerate(getattr(require, key) or ()):
            if not text:
                yield Problem(path=(*path, key, index), message="must not be empty")
    # A challenge lists the acr values as it lists scopes (RFC 9470 section 3).
    for key in ("scopes", "any_scope", "acr"):
        yield from check_scopes(getattr(require, key) or (), (*path, key))
    for key in ("claims", "all_of"):
        wanted: Mapping[str, tuple[object, ...]] = getattr(require, key) or {}
        for claim, values in wanted.items():
            yield from check_claim(claim, (*path, key, claim), aliases)
            if not values:
                yield Problem(path=(*path, key, claim), message="must not be empty")
    if require.risk is not None:
        yield from _check_risk(require.risk, (*path, "risk"))
    if require.when:
        yield from _check_condition(require, (*path, "when"))


def _check_risk(risk: RequireRisk, path: KeyPath) -> Iterator[Problem]:
    if not risk.model_fields_set - {"step_up"}:
        message = "must name what is risky"
        yield Problem(path=path, message=message, hint="such as max_failures_1m: 20, or known_network: true")
    if risk.step_up is not None:
        step_up = (*path, "step_up")
        yield from _check_not_empty(risk.step_up, step_up, "such as acr: [urn:mfa], or max_age: 5m")
        yield from check_scopes(risk.step_up.acr or (), (*step_up, "acr"))


def _check_condition(require: Require, path: KeyPath) -> Iterator[Problem]:
    try:
        require.condition  # noqa: B018 - compiled here, and kept for the build
    except NotInstalledError:
        yield Problem(path=path, message="needs the CEL runtime, which is not installed", hint=INSTALL)
    except ConditionError as error:
        yield Problem(path=path, message=str(error))


def _check_params(rule: Rule, path: KeyPath) -> Iterator[Problem]:
    """Report a parameter in the condition that no path of the rule has: each evaluation would fail."""
    try:
        templates = (rule.match or Match()).templates
    except ValueError:
        return  # reported at its place
    params = {name for template in templates for name in template.params}
    for name, where in find_params(rule.require.when or "") if rule.require else ():
        if name not in params:
            message = f"{where}: no path of this rule has a parameter {quote(name)}"
            yield Problem(path=path, message=message, hint=suggest(name, params))


def _check_not_empty(section: Section, path: KeyPath, hint: str) -> Iterator[Problem]:
    """Report a section, or a list or map in it, that is present and empty."""
    if not section.model_fields_set:
        yield Problem(path=path, message="must not be empty", hint=hint)
    for key in section.model_fields_set:
        if getattr(section, key) in ((), {}, ""):
            yield Problem(path=(*path, key), message="must not be empty", hint="leave it out, or give it a value")
