"""Which requests the rules are for, and what they ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from authz.conditions import INSTALL, ConditionError, NotInstalledError, compile_condition, find_params
from authz.config.checks.tokens import TOKEN, check_scopes
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote, suggest
from authz.config.rules import Match, Require, Rule
from authz.config.section import Section
from authz.core.claims import ClaimPath
from authz.core.policy import Allow, HostPattern, PathTemplate

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,63}")


def check_rules(config: Config) -> Iterator[Problem]:
    """Report what is wrong with each rule, and names that two rules have."""
    if not config.rules:
        yield Problem(path=("rules",), message="must not be empty", hint="without a rule every request is denied")
    first: dict[str, int] = {}
    aliases = claim_names(config)
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


def claim_names(config: Config) -> frozenset[str]:
    """Return the names that any issuer gives to a claim path of its own."""
    return frozenset(name for issuer in config.issuers.values() for name in issuer.claims)


def check_claim(text: str, path: KeyPath, aliases: frozenset[str]) -> Iterator[Problem]:
    """Report what is neither a claim path nor an issuer's name for one."""
    try:
        if text not in aliases:
            ClaimPath.parse(text)
    except ValueError as error:
        yield Problem(path=path, message=str(error))


def _check_allow(rule: Rule, path: KeyPath) -> Iterator[Problem]:
    if rule.allow in {Allow.PUBLIC, Allow.NOBODY} and rule.require is not None:
        message = f"a rule that allows {rule.allow} looks at no token, so it cannot require anything"
        yield Problem(path=(*path, "require"), message=message)
    if rule.accept is not None and rule.allow in {Allow.PUBLIC, Allow.NOBODY}:
        # A spelling that the upstream reads differently would walk out of the public part.
        message = f"ambiguous paths are never accepted with allow: {rule.allow}"
        yield Problem(path=(*path, "accept"), message=message)
    elif rule.accept == ():
        yield Problem(path=(*path, "accept"), message="must not be empty", hint="leave it out")


def _check_match(match: Match, path: KeyPath) -> Iterator[Problem]:
    yield from _check_not_empty(match, path, 'to match every request write paths: ["/**"]')
    parsers: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("hosts", HostPattern.parse),
        ("paths", PathTemplate.parse),
        ("methods", _parse_method),
    )
    for key, parse in parsers:
        for index, text in enumerate(getattr(match, key) or ()):
            try:
                parse(text)
            except ValueError as error:
                yield Problem(
                    path=(*path, key, index), message=str(error), hint=_upper(text) if key == "methods" else ""
                )


def _parse_method(text: str) -> str:
    # RFC 9110 section 9.1: methods are case-sensitive, and the standard ones are in upper case.
    if not TOKEN.fullmatch(text) or text != text.upper():
        raise ValueError("must be a method in upper case")
    return text


def _upper(text: str) -> str:
    method = text.strip().upper()
    return f"did you mean `{method}`?" if TOKEN.fullmatch(method) else ""


def _check_require(require: Require, path: KeyPath, config: Config, aliases: frozenset[str]) -> Iterator[Problem]:
    yield from _check_not_empty(require, path, "an empty list of requirements is met by nobody")
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
    if require.when:
        yield from _check_condition(require.when, (*path, "when"))


def _check_condition(text: str, path: KeyPath) -> Iterator[Problem]:
    try:
        compile_condition(text)
    except NotInstalledError:
        yield Problem(path=path, message="needs the CEL runtime, which is not installed", hint=INSTALL)
    except ConditionError as error:
        yield Problem(path=path, message=str(error))


def _check_params(rule: Rule, path: KeyPath) -> Iterator[Problem]:
    """Report a parameter that the condition reads, and no path of the rule has: each evaluation would fail."""
    try:
        templates = [PathTemplate.parse(text) for text in (rule.match.paths if rule.match else None) or ()]
    except ValueError:
        return  # reported where it stands
    known = {name for template in templates for name in template.params}
    for name, where in find_params(rule.require.when or "") if rule.require else ():
        if name not in known:
            message = f"{where}: no path of this rule has a parameter {quote(name)}"
            yield Problem(path=path, message=message, hint=suggest(name, known))


def _check_not_empty(section: Section, path: KeyPath, hint: str) -> Iterator[Problem]:
    """Report a section, or a list or map in it, that is there and says nothing."""
    if not section.model_fields_set:
        yield Problem(path=path, message="must not be empty", hint=hint)
    for key in section.model_fields_set:
        if getattr(section, key) in ((), {}, ""):
            yield Problem(path=(*path, key), message="must not be empty", hint="leave it out, or say what it holds")
