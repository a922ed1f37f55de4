"""The notes of `authz explain`: which rules nearly matched, and how a running system differs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from authz.config.model import Config
from authz.core.policy import Match, Policy, Rule
from authz.core.reasons import Rejected
from authz.core.request import Request, Target
from authz.tooling.describe import enumerate_words
from authz.tooling.envoy_config.derive import derive

MAX_NEAR: Final = 5  # rules that are listed

_ESCAPED_SLASH: Final = re.compile("%2f|%5c", re.IGNORECASE)
_DOT_SEGMENT: Final = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


def describe_near_misses(rules: tuple[Rule, ...], target: Target, request: Request) -> Iterator[str]:
    """Yield the rules for the request's path, in any letter case, each with its unmet conditions."""
    near_misses = [(rule, missed) for rule in rules if (missed := _unmet_conditions(rule, target, request))]
    for rule, missed in near_misses[:MAX_NEAR]:
        yield f"near: rule {rule.name}: {'; '.join(missed)}"
    if len(near_misses) > MAX_NEAR:
        yield f"near: {len(near_misses) - MAX_NEAR} more rules"
    if not near_misses:
        yield "near: no rule is for this path, whatever the method, host, context and letter case"


def describe_envoys_part(path: str, config: Config) -> Iterator[str]:
    """Yield what an Envoy configured for *config* does to a *path* before the sidecar receives it."""
    path, settings = path.partition("?")[0], derive(config)
    done = []
    if "//" in path and settings.merge_slashes:
        done.append("makes // one /")
    if _DOT_SEGMENT.search(path):
        done.append("resolves dot segments")
    if _ESCAPED_SLASH.search(path) and settings.escaped_slashes == "REJECT_REQUEST":
        done.append("answers 400 to %2F and %5C")
    if done:
        yield f"note: decided for the path as given; Envoy, as `authz envoy-config` prints it, first {', '.join(done)}"


def describe_unknown_revocations(config: Config) -> Iterator[str]:
    """Yield that entries which a running sidecar has are not known here, if there is a source of them."""
    logouts = any(issuer.logout is not None for issuer in config.issuers.values())
    if logouts or config.revocation.lists or config.revocation.transmitters or config.revocation.file:
        yield "note: whether the token was revoked is not known here; authz explain --live asks the running sidecar"


def _unmet_conditions(rule: Rule, target: Target, request: Request) -> list[str]:
    """Return the conditions of *rule* that the request does not meet; empty if the rule is for another path."""
    match = rule.match
    anything = Match(paths=match.paths, case_insensitive=True)
    if not _matches(rule, anything, target, request):
        return []
    conditions = (
        ("method", enumerate_words(match.methods), replace(anything, methods=match.methods)),
        ("host", _hosts(match), replace(anything, hosts=match.hosts)),
        ("context", _context(match), replace(anything, context=match.context)),
        ("letter case", "another", replace(anything, case_insensitive=match.case_insensitive)),
    )
    return [f"{name} is {text}" for name, text, alone in conditions if not _matches(rule, alone, target, request)]


def _matches(rule: Rule, match: Match, target: Target, request: Request) -> bool:
    """Return, by the code that serves, whether *rule* would match with *match* instead of its own."""
    try:
        Policy([replace(rule, match=match)]).select(target, request.context)
    except Rejected:
        return False
    return True


def _hosts(match: Match) -> str:
    return ", ".join(f"*.{host.name}" if host.wildcard else host.name for host in match.hosts)


def _context(match: Match) -> str:
    return ", ".join(f"{name}={value}" for name, value in match.context.items())
