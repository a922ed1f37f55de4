"""Proves the table of upstreams: each framework is asked, and does what its row says and nothing else of it.

Caddy, Jetty and Spring are not among them. Each framework has the same routes: GET /orders/:id, GET and DELETE /admin.
"""

from __future__ import annotations

import http.client
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from authz.demo.sidecar import free_address
from authz.tooling.upstreams import UPSTREAMS, Trait
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.tools import TOOLS

pytestmark = pytest.mark.needs("frameworks")

FOLDER: Final = TOOLS / "frameworks"
SOURCES: Final = Path(__file__).parent / "frameworks"
# What runs, and the frameworks in the order of their ports.
PROGRAMS: Final[dict[str, tuple[list[str], tuple[str, ...]]]] = {
    "go": ([str(FOLDER / "go/frameworks")], ("go", "echo", "gin", "chi", "fiber", "gorilla")),
    "node": (["node", str(FOLDER / "node/server.mjs")], ("express", "express", "koa", "fastify", "hapi")),
    "python": (
        [str(FOLDER / "python/venv/bin/python"), str(FOLDER / "python/servers")],
        ("flask", "django", "starlette", "bottle", "falcon", "aiohttp", "tornado"),
    ),
}
PLACES: Final = [(program, place) for program, (_, names) in PROGRAMS.items() for place in range(len(names))]
OBSERVED: Final = set(Trait) - {Trait.TEXT_PREFIX, Trait.METHOD_OVERRIDE}  # the first is nginx's, the second a filter's


class Framework:
    """One framework at a port of its own."""

    def __init__(self, address: str) -> None:
        self._address: Final = address

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        """Send a request as it is, and return status and body."""
        connection = http.client.HTTPConnection(self._address, timeout=HANG_SECONDS)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def is_up(self) -> bool:
        """Tell whether it answers."""
        try:
            return self.ask("GET", "/admin") == (200, "getadmin")
        except OSError:
            return False

    def traits(self) -> Iterator[Trait]:
        """Yield what it does."""
        if self.ask("GET", "/ADMIN") == (200, "getadmin"):
            yield Trait.IGNORES_CASE
        if self.ask("GET", "/orders/")[1].startswith('item ""'):
            yield Trait.EMPTY_PARAMETER
        if self.ask("GET", "/orders/7/items")[1].startswith('item "7/items"'):
            yield Trait.TAKES_SLASHES
        if self.ask("HEAD", "/admin")[0] == 200:
            yield Trait.HEAD_FROM_GET
        if "evil.test" in self.ask("GET", "/orders/7", **{"X-Forwarded-Host": "evil.test"})[1]:
            yield Trait.FORWARDED_HOST
        if self.ask("delete", "/admin") == (200, "admin"):
            yield Trait.UPPER_METHOD


@pytest.fixture(scope="module")
def frameworks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, int], Framework]]:
    """Run them all."""
    started: dict[tuple[str, int], Framework] = {}
    with ExitStack() as running:
        for program, (command, names) in PROGRAMS.items():
            addresses = [free_address() for _ in names]
            ports = [address.rpartition(":")[2] for address in addresses]
            log = running.enter_context((tmp_path_factory.mktemp(program) / "log").open("wb"))
            process = subprocess.Popen([*command, *ports], stdout=log, stderr=log, env=os.environ, cwd=FOLDER / program)
            running.callback(process.wait, HANG_SECONDS)
            running.callback(process.kill)
            started |= {(program, place): Framework(address) for place, address in enumerate(addresses)}
        for framework in started.values():
            wait_until(framework.is_up)
        yield started


@pytest.mark.parametrize(("program", "place"), PLACES, ids=str)
def test_a_row_is_what_the_framework_does(
    frameworks: dict[tuple[str, int], Framework], program: str, place: int
) -> None:
    """All that the row names, and nothing that it does not."""
    row = UPSTREAMS[PROGRAMS[program][1][place]]
    assert set(frameworks[program, place].traits()) == row.traits & OBSERVED, row.title


@pytest.mark.parametrize(("program", "place"), PLACES, ids=str)
def test_the_release_of_a_row_is_the_one_that_runs(program: str, place: int) -> None:
    """The lock files say which release was asked; Go's own router is of the installed Go."""
    name = PROGRAMS[program][1][place]
    file = {"go": "go/go.mod", "node": "node/package.json", "python": "python/frameworks.lock"}[program]
    text = (SOURCES / file).read_text(encoding="utf-8")
    if name != "go":
        assert all(release in text for release in UPSTREAMS[name].release.split(", "))
