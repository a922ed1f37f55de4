"""Real frameworks behind a real Envoy and the sidecar: what they serve without a token, over HTTP/1.1 and HTTP/2.

Each has the same routes, in its default settings. They are asked in every spelling that some server may take for the
same path, by other methods and hosts, and with headers that claim another path, method or host.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.frameworks.proof import FIXED, NOT_FIXED, Proof, check_blacklist, check_fixes, check_whitelist, proving

pytestmark = pytest.mark.needs("frameworks/python", "frameworks/node", "frameworks/go", "node", "nginx", "envoy")

NAMES: Final = (
    *(
        "nginx",
        "nginx-slashed",
        "flask",
        "gunicorn",
        "django",
        "starlette",
        "express4",
        "express5",
        "fastify",
        "go",
        "echo",
    ),
)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    """Everything."""
    with proving(NAMES, tmp_path_factory.mktemp("p")) as started:
        yield started


@pytest.mark.parametrize("name", NAMES)
def test_a_whitelist_opens_nothing_else(proof: Proof, name: str) -> None:
    """Where the public paths are written down and the rest is protected, only those are served."""
    check_whitelist(proof, name)


@pytest.mark.parametrize("name", NAMES)
def test_every_way_around_a_blacklist_was_named(proof: Proof, name: str) -> None:
    """Where the protected paths are written down, check-config names each rule that is got around, and how."""
    check_blacklist(proof, name)


@pytest.mark.parametrize("name", [name for name in NAMES if (FIXED, name) not in NOT_FIXED])
def test_the_fixes_of_a_blacklist_leave_no_way_around(proof: Proof, name: str) -> None:
    """What check-config offers for its warnings closes all of them."""
    check_fixes(proof, name)
