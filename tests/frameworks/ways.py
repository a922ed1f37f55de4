"""Which trait of an upstream explains that a request without a token got to a handler, and what had been named."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from click.testing import CliRunner

from authz.cli import main
from authz.config.build import build_rules
from authz.config.load import load
from authz.core.policy import Policy, Rule
from authz.core.reasons import Rejected
from authz.core.request import Request, parse_target
from authz.tooling.upstreams import Trait
from tests.frameworks.traffic import Ask

Way = frozenset[Trait]
_Undo = Callable[[Ask, Rule], Ask]
_MOST: Final = 3  # traits that one request uses


def _cut(ask: Ask, rule: Rule) -> Ask:
    """Leave out what is longer than the rule's path."""
    segments = ask.path.strip("/").split("/")
    return replace(ask, path="/" + "/".join(segments[: len(rule.match.paths[0].segments)]))


def _cut_text(ask: Ask, rule: Rule) -> Ask:
    """Leave out what follows the rule's path as text."""
    text = rule.match.paths[0].text.removesuffix("/**")
    return replace(ask, path=text) if ask.path.lower().startswith(text) else ask


_UNDO: Final[dict[Trait, _Undo]] = {
    Trait.IGNORES_CASE: lambda ask, _: ask,  # the rules are made to ignore it
    Trait.EMPTY_PARAMETER: lambda ask, _: replace(ask, path=f"{ask.path.rstrip('/')}/x"),
    Trait.TAKES_SLASHES: _cut,
    Trait.TEXT_PREFIX: _cut_text,
    Trait.HEAD_FROM_GET: lambda ask, _: replace(ask, method=re.sub("^HEAD$", "GET", ask.method)),
    Trait.UPPER_METHOD: lambda ask, _: replace(ask, method=ask.method.upper()),
    Trait.METHOD_OVERRIDE: lambda ask, rule: replace(ask, method=min(rule.match.methods, default=ask.method)),
    Trait.FORWARDED_HOST: lambda ask, rule: replace(ask, host=min((h.name for h in rule.match.hosts), default="x")),
}


def explain(file: Path, name: str, ask: Ask) -> Way | None:
    """Return the fewest traits without which *ask* would be for the rule *name* of *file*; None if none explain it."""
    rules = build_rules(load(file))
    (rule,) = (each for each in rules if each.name == name)
    exact, folded = (
        Policy(replace(each, match=replace(each.match, case_insensitive=fold)) for each in rules)
        for fold in (False, True)
    )
    seen = _normalize(ask)
    for count in range(_MOST + 1):
        for traits in combinations(Trait, count):
            undone = seen
            for trait in traits:
                undone = _UNDO[trait](undone, rule)
            if _select(folded if Trait.IGNORES_CASE in traits else exact, undone) == name:
                return frozenset(traits)
    return None


def _normalize(ask: Ask) -> Ask:
    """Write the request as Envoy passes it on."""
    path = ask.path.partition("?")[0].replace("\\", "/").rstrip(" ")
    path = re.sub("[\x80-\xff]", lambda byte: f"%{ord(byte[0]):02X}", path)
    if url := re.fullmatch(r"http://([^/]*)(.*)", path):
        ask, path = replace(ask, host=url[1]), url[2]
    path = re.sub(
        "%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])", lambda escape: unquote(escape[0]), path
    )
    resolved = posixpath.normpath(re.sub("/+", "/", path))
    return replace(ask, path=resolved + ("/" if path.endswith(("/", "/.", "/..")) and resolved != "/" else ""))


def _select(policy: Policy, ask: Ask) -> str:
    try:
        target = parse_target(Request(method=ask.method, host=ask.host, path=ask.path))
        return policy.select(target, {})[0].name
    except Rejected:
        return ""


_IN_GENERAL: Final = {
    Trait.IGNORES_CASE: "another letter case",
    Trait.EMPTY_PARAMETER: "an empty last segment",
    Trait.TAKES_SLASHES: "a deeper path",
    Trait.HEAD_FROM_GET: "another method",
    Trait.UPPER_METHOD: "another method",
    Trait.METHOD_OVERRIDE: "another method",
    Trait.FORWARDED_HOST: "another host",
}


def named(file: Path, upstream: str = "") -> set[tuple[str, Trait]]:
    """Return what `authz check-config` names: rules of *file*, and the trait that leads around each.

    With *upstream* only what it says of that one; otherwise what it says of every file.
    """
    arguments = ["--upstream", upstream] if upstream else []
    told = CliRunner().invoke(main, ["check-config", str(file), "--json", *arguments])
    rules = [rule.name for rule in build_rules(load(file))]
    return set(
        _named(
            json.loads(told.stdout)["warnings"], rules, {trait: trait for trait in Trait} if upstream else _IN_GENERAL
        )
    )


def _named(warnings: list[dict[str, str]], rules: list[str], words: dict[Trait, str]) -> Iterator[tuple[str, Trait]]:
    for warning in warnings:
        place = re.match(r"rules\[(\d+)\]", warning["path"])
        for trait, word in words.items():
            if place and word in warning["message"]:
                yield rules[int(place[1])], trait
