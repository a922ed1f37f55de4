"""Proves the table of upstreams: each framework does what its row says, and nothing else of it.

Nothing else leads around a rule either, through Envoy and the sidecar. Some of them, and nginx, are asked that in every
run: tests/integration/test_backend_paths.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from authz.tooling.upstreams import UPSTREAMS, Trait
from tests.frameworks.proof import Proof, check_blacklist, check_fixes, check_whitelist, proving
from tests.frameworks.requests import INTERN, Route
from tests.frameworks.servers import PROGRAMS, ask, row_of

pytestmark = pytest.mark.needs(*(program.tool for program in PROGRAMS), "java", "node", "envoy")

NAMES: Final = tuple(name for program in PROGRAMS for name in program.names)
FRAMEWORKS: Final = tuple(name for name in NAMES if row_of(name) != "nginx" and name != "gunicorn")


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    """Run them all, behind Envoy and the sidecar."""
    with proving(("nginx-slashed", *FRAMEWORKS), tmp_path_factory.mktemp("p")) as started:
        yield started


def traits(address: str) -> Iterator[Trait]:
    """Yield what a framework does."""
    if ask(address, Route("", "GET", "/ADMIN"))[1] == "admin":
        yield Trait.IGNORES_CASE
    if ask(address, Route("", "GET", "/orders/"))[1] == "orders":
        yield Trait.EMPTY_PARAMETER
    if ask(address, Route("", "GET", "/orders/7/items"))[1] == "orders":
        yield Trait.TAKES_SLASHES
    if ask(address, Route("", "GET", "/manage,x"))[1] == "manage":
        yield Trait.TEXT_PREFIX
    if ask(address, Route("", "HEAD", "/reports")) == (200, "reports"):
        yield Trait.HEAD_FROM_GET
    if ask(address, Route("", "GET", "/console"), **{"x-forwarded-host": INTERN})[1] == "console":
        yield Trait.FORWARDED_HOST
    if ask(address, Route("", "delete", "/admin"))[1] == "remove":
        yield Trait.UPPER_METHOD
    if ask(address, Route("", "POST", "/admin?_method=DELETE"))[1] == "remove":
        yield Trait.METHOD_OVERRIDE


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_row_is_what_the_framework_does(proof: Proof, name: str) -> None:
    """All that the row names, and nothing that it does not."""
    assert set(traits(proof.addresses[name])) == UPSTREAMS[row_of(name)].traits


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_whitelist_opens_nothing_else(proof: Proof, name: str) -> None:
    """Where the public paths are written down and the rest is protected, only those are served."""
    check_whitelist(proof, name)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_way_around_a_blacklist_was_named(proof: Proof, name: str) -> None:
    """Where the protected paths are written down, check-config names each rule that is got around, and how."""
    check_blacklist(proof, name)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_fixes_of_a_blacklist_leave_no_way_around(proof: Proof, name: str) -> None:
    """What check-config offers for its warnings closes all of them."""
    check_fixes(proof, name)
