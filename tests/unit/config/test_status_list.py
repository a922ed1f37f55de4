"""Proves authz.config.checks.status_list: lists that cannot be fetched, or let no token pass, are refused."""

from __future__ import annotations

import pytest

from authz.config.build import build_snapshot
from authz.core.status_list import StatusRules
from tests.unit.config.sample import configure, problems, small

URIS = "uris: ['https://status.example.com/lists/']"


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (URIS, ""),
        (f"{URIS}, accepted: [0, 2, 255], required: false", ""),
        ("uris: []", "status_list.uris: must not be empty"),
        ("uris: ['http://status.example.com/lists/']", "status_list.uris[0]: must begin with https://"),
        (f"{URIS}, jwks_uri: 'http://status.example.com/keys'", "status_list.jwks_uri: must begin with https://"),
        (f"{URIS}, accepted: []", "status_list.accepted: must have 0, VALID"),
        (f"{URIS}, accepted: [0, 1]", "status_list.accepted[1]: 1 is INVALID"),
        (f"{URIS}, accepted: [0, 256]", "status_list.accepted[1]: must be 0 to 255"),
        (f"{URIS}, accepted: [0, -1]", "status_list.accepted[1]: must be 0 to 255"),
        (f"{URIS}, interval: 30m", "status_list.max_stale: must not be shorter than interval"),
    ],
)
def test_which_lists_may_be_named(section: str, expected: str) -> None:
    """It is said with its path, before a token is refused, or passes."""
    found = problems(small(issuer=f"status_list: {{{section}}}"))
    assert bool(found) == bool(expected), found
    assert any(expected in line for line in found or [""])


def test_what_the_core_gets() -> None:
    """The rules are those of the file; without a section there are none."""
    [issuer] = build_snapshot(configure(issuer=f"status_list: {{{URIS}, accepted: [0, 2]}}")).issuers.values()
    assert issuer.status_list == StatusRules(uris=("https://status.example.com/lists/",), accepted=frozenset({0, 2}))
    [issuer] = build_snapshot(configure()).issuers.values()
    assert issuer.status_list is None
