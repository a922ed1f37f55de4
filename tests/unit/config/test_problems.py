"""Proves that problems are said plainly, in the order of the file, and never smuggle anything into a terminal."""

from __future__ import annotations

import pytest

from authz.config.problems import ConfigError, KeyPath, Problem, nearest, quote, render_path, suggest


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("server", "listen"), "server.listen"),
        (("rules", 1, "match", "paths", 0), "rules[1].match.paths[0]"),
        (("claims", "realm_access.roles"), "claims['realm_access.roles']"),
        (("claims", "a\x1b[2J"), r"claims['a\x1b[2J']"),
        ((0,), "[0]"),
    ],
)
def test_paths(path: KeyPath, text: str) -> None:
    """A path reads as its author would say it."""
    assert render_path(path) == text


def test_error_has_a_line_for_each_problem() -> None:
    """An error says file, line, path, message and hint, in the order of the file; what has no line comes first."""
    error = ConfigError(
        "authz.yaml",
        [
            Problem(path=("rules",), message="is required", line=9),
            Problem(path=("servr",), message="unknown key", hint="did you mean `server`?", line=2),
            Problem(path=(), message="is larger than 4 bytes"),
        ],
    )
    assert str(error).splitlines() == [
        "authz.yaml: is larger than 4 bytes",
        "authz.yaml:2: servr: unknown key (did you mean `server`?)",
        "authz.yaml:9: rules: is required",
    ]


def test_quotes() -> None:
    """A value is shown in quotes and cut short; its control characters are escaped, its letters are kept."""
    assert quote("Zoë") == "'Zoë'"
    assert quote("a\n\x1b[2J") == r"'a\n\x1b[2J'"
    assert quote("a\u202eb") == r"'a\u202eb'"
    assert quote("a" * 100) == f"'{'a' * 57}...'"
    assert quote(5) == "'5'"


def test_suggestions() -> None:
    """What is near is suggested, whatever its case; what is not near is not."""
    assert nearest("AUDIENCE", ["issuer", "audiences"]) == "audiences"
    assert suggest("rs256", ["RS256", "ES256"]) == "did you mean `RS256`?"
    assert nearest("color", ["issuer", "audiences"]) is None
    assert suggest("color", []) == ""
