"""Proves that pydantic's findings are said in the words of the file, and that suggestions know their place."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from authz.config.diagnostics.messages import known_keys, pydantic_errors
from authz.config.problems import KeyPath


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "issuers"),
        (("server", "tls"), "client_ca_file"),
        (("issuers", "corporate"), "audiences"),
        (("issuers", "corporate", "fetch"), "cooldown"),
        (("issuers", "corporate", "jwks"), "keys"),
        (("token", "sources", 0), "cookie"),
        (("rules", 3, "match"), "paths"),
        (("rules", 3, "require"), "max_age"),
        (("identity", "headers", "x-auth-roles"), "join"),
        (("telemetry", "traces"), "exporter"),
    ],
)
def test_known_keys(path: KeyPath, key: str) -> None:
    """The keys of a section are known by its path, through maps and lists."""
    assert key in known_keys(path)


@pytest.mark.parametrize(
    "path", [("issuers",), ("rules",), ("version",), ("rules", 0, "name"), ("issuers", "corporate", "claims", "roles")]
)
def test_no_known_keys(path: KeyPath) -> None:
    """Maps by name, lists and plain values have no keys to suggest."""
    assert known_keys(path) == ()


def test_unforeseen_finding() -> None:
    """What has no words of ours is said in pydantic's, in the same manner."""
    error = ValidationError.from_exception_data("Config", [{"type": "date_type", "loc": ("version",), "input": 1}])
    assert [str(problem) for problem in pydantic_errors(error)] == ["version: input should be a valid date"]


def test_a_misspelt_required_key_is_one_mistake() -> None:
    """The key that is missing because it is misspelt is not reported again."""
    error = ValidationError.from_exception_data(
        "Config",
        [
            {"type": "missing", "loc": ("rules",), "input": {}},
            {"type": "missing", "loc": ("version",), "input": {}},
            {"type": "extra_forbidden", "loc": ("rule",), "input": []},
        ],
    )
    assert [str(problem) for problem in pydantic_errors(error)] == [
        "version: is required",
        "rule: unknown key (did you mean `rules`?)",
    ]
