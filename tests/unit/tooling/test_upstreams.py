"""Proves `authz check-config --upstream`: what a framework serves otherwise is a warning about this file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from authz.cli import main
from authz.config.load import parse
from authz.tooling.upstreams import UPSTREAMS, Trait, Upstream, find_upstream_problems
from tests.tools import ROOT

HEAD: Final = """version: 1
issuers:
  a: {issuer: "https://a.test", audiences: [api]}
rules:
"""
PUBLIC: Final = "rest | match: {paths: ['/**']}, allow: public"
LIST: Final = "list | match: {paths: [/orders]}, allow: public"


def write(*rules: str) -> str:
    """Write a file with *rules*, each as `name | the rest of a flow mapping`."""
    return HEAD + "".join("  - {{name: {}, {}}}\n".format(*rule.split(" | ")) for rule in rules)


def find(trait: Trait, *rules: str) -> list[str]:
    """Warn of an upstream that has this trait alone."""
    upstream = Upstream(title="It", release="1", traits=frozenset({trait}))
    return [str(each) for each in find_upstream_problems(parse(write(*rules), file="f"), upstream)]


OPEN: Final = {
    "another letter case": (Trait.IGNORES_CASE, ("a | match: {paths: [/Admin]}", PUBLIC), "GET /aDMIN by"),
    "an empty parameter": (Trait.EMPTY_PARAMETER, (LIST, "a | match: {paths: ['/orders/{id}']}"), "GET /orders by"),
    "a deeper path": (
        Trait.TAKES_SLASHES,
        ("a | match: {paths: ['/orders/{id}']}", PUBLIC),
        "GET /orders/{any}/{any} by",
    ),
    "a longer text": (Trait.TEXT_PREFIX, ("a | match: {paths: ['/manage/**']}", PUBLIC), "GET /manage{any} by"),
    "HEAD": (Trait.HEAD_FROM_GET, ("a | match: {paths: [/a], methods: [GET]}", PUBLIC), "HEAD /a by"),
    "a method in lower case": (
        Trait.UPPER_METHOD,
        ("a | match: {paths: [/a], methods: [PURGE]}", PUBLIC),
        "purge /a by",
    ),
    "an overridden method": (
        Trait.METHOD_OVERRIDE,
        ("a | match: {paths: [/a], methods: [DELETE]}", PUBLIC),
        "POST /a by",
    ),
    "a host that a client claims": (
        Trait.FORWARDED_HOST,
        ("a | match: {hosts: [a.test], paths: [/a]}", PUBLIC),
        "a client chooses the host",
    ),
}
ELSEWHERE: Final = {
    "on a host that the rule does not name": (
        ("a | match: {paths: [/a]}", "site | match: {hosts: [www.test], paths: ['/**']}, allow: public"),
        "GET /A by",
    ),
    "on the second of its hosts": (
        ("a | match: {hosts: [a.test, b.test], paths: [/a]}", "b | match: {hosts: [b.test]}, allow: public"),
        "GET /A by",
    ),
    "on a host below its wildcard": (
        ("a | match: {hosts: ['*.test'], paths: [/a]}", "b | match: {hosts: [b.test]}, allow: public"),
        "GET /A by",
    ),
    "by a method that the rule does not name": (
        ("a | match: {paths: [/a]}", "b | match: {methods: [POST]}, allow: public"),
        "POST /A by",
    ),
    "on a route that the rule does not name": (
        ("a | match: {paths: [/a]}", "b | match: {context: {k: v}}, allow: public"),
        "GET /A by",
    ),
    "below a path whose end another rule decides": (
        ("top | match: {paths: [/a]}, allow: public", "a | match: {paths: ['/a/**']}", PUBLIC),
        "GET /A by",
    ),
}
CLOSED: Final = {
    "letter case that the rule ignores": (
        Trait.IGNORES_CASE,
        ("a | match: {paths: [/Admin], case_insensitive: true}", PUBLIC),
    ),
    "nothing weaker below": (Trait.IGNORES_CASE, ("a | match: {paths: [/Admin]}", "rest | match: {paths: ['/**']}")),
    "nothing below": (Trait.TAKES_SLASHES, ("a | match: {paths: ['/orders/{id}']}",)),
    "a tree": (Trait.TAKES_SLASHES, ("a | match: {paths: ['/orders/**']}", PUBLIC)),
    "no parameter at the end": (Trait.EMPTY_PARAMETER, (LIST, "a | match: {paths: ['/orders/{id}/x']}")),
    "both methods": (Trait.HEAD_FROM_GET, ("a | match: {paths: [/a], methods: [GET, HEAD]}", PUBLIC)),
    "a registered method, which the sidecar refuses": (
        Trait.UPPER_METHOD,
        ("a | match: {paths: [/a], methods: [DELETE]}", PUBLIC),
    ),
    "a rule that is shadowed": (Trait.IGNORES_CASE, (PUBLIC, "a | match: {paths: [/Admin]}")),
    "a public rule": (Trait.IGNORES_CASE, (LIST, "rest | match: {paths: ['/**']}")),
    "rules for every host": (Trait.FORWARDED_HOST, ("a | match: {paths: [/a]}", PUBLIC)),
}


@pytest.mark.parametrize(("trait", "rules", "said"), OPEN.values(), ids=OPEN)
def test_a_way_around_is_named(trait: Trait, rules: tuple[str, ...], said: str) -> None:
    """The request that the framework would serve by the same route, the rule that decides it, and what to do."""
    (warning,) = find(trait, *rules)
    assert f"It {trait}: " in warning
    assert said in warning
    assert warning.endswith(")")


@pytest.mark.parametrize(("rules", "said"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_way_around_is_named_wherever_it_is(rules: tuple[str, ...], said: str) -> None:
    """A weaker rule is found on its own hosts, methods and routes, where the strict rule is for all of them."""
    (warning,) = find(Trait.IGNORES_CASE, *rules)
    assert said in warning


def test_the_last_parameter_takes_as_many_slashes_as_a_weaker_rule_has() -> None:
    """Echo serves /orders/1/2/3 by the route of /orders/{id}: a public rule for that depth is found."""
    deep = "deep | match: {paths: ['/orders/{a}/{b}/{c}']}, allow: public"
    (warning,) = find(Trait.TAKES_SLASHES, "a | match: {paths: ['/orders/{id}']}", deep)
    assert "GET /orders/{any}/{any}/{any}" in warning


@pytest.mark.parametrize(("trait", "rules"), CLOSED.values(), ids=CLOSED)
def test_nothing_is_said_of_what_is_closed(trait: Trait, rules: tuple[str, ...]) -> None:
    """A trait that leads to no weaker rule is no business of this file's author."""
    assert find(trait, *rules) == []


def test_hosts_and_context_are_those_of_the_rule() -> None:
    """What only another host or route could meet is no way around."""
    strict = "a | match: {hosts: ['*.a.test'], paths: [/Admin], context: {k: v}}"
    assert find(Trait.IGNORES_CASE, strict, "rest | match: {hosts: [b.test], paths: ['/**']}, allow: public") == []
    assert find(Trait.IGNORES_CASE, strict, "rest | match: {paths: ['/**'], context: {k: w}}, allow: public") == []
    assert len(find(Trait.IGNORES_CASE, strict, "rest | match: {hosts: ['*.a.test']}, allow: public")) == 1


def test_every_trait_is_proved() -> None:
    """Each has a way around above, and an upstream that opens it."""
    assert {trait for trait, *_ in OPEN.values()} == set(Trait)
    assert set().union(*(upstream.traits for upstream in UPSTREAMS.values())) == set(Trait)


@pytest.mark.parametrize("name", sorted(set(UPSTREAMS) - {"nginx"}))
def test_the_release_of_a_row_is_the_one_that_is_tried(name: str) -> None:
    """What the frameworks are built from says which release is asked; Debian says it of nginx."""
    files = ("python/frameworks.lock", "node/package.json", "go/go.mod", "caddy/go.mod", "java/pom.xml")
    text = "".join((ROOT / "tests/frameworks" / file).read_text(encoding="utf-8") for file in files)
    assert all(
        re.search(rf"(?<![\d.]){re.escape(each)}(?![\d.])", text) for each in UPSTREAMS[name].release.split(", ")
    )


def test_the_command(tmp_path: Path) -> None:
    """The row becomes warnings with their lines, beside the others; a name that is none is refused with a hint."""
    file = tmp_path / "authz.yaml"
    file.write_text(write("a | match: {paths: [/admin], methods: [GET]}", PUBLIC), encoding="utf-8")
    told = CliRunner().invoke(main, ["check-config", str(file), "--upstream", "express"])
    assert told.exit_code == 0
    assert f"{file}:5: warning: rules[0]: Express ignores letter case: it may serve GET /ADMIN" in told.stderr
    assert "Express answers HEAD from GET: it may serve HEAD /admin" in told.stderr
    data = json.loads(CliRunner().invoke(main, ["check-config", str(file), "--upstream", "gin", "--json"]).stdout)
    assert not any("Gin" in warning["message"] for warning in data["warnings"])
    wrong = CliRunner().invoke(main, ["check-config", str(file), "--upstream", "expres"])
    assert wrong.exit_code == 2
    assert "express" in wrong.stderr
