"""Proves that readers of other languages verify our tokens over a rotation: a Spring resource server, and Go's jwx.

Both are set up as their pages say, with caches of their own. Spring takes its settings from properties alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import jwt
import pytest

from authz.demo.client import send
from authz.demo.process import Process
from tests.e2e.test_upstream_token import ISSUER, KEYS, Stack, run
from tests.fakes.ports import free_address
from tests.tools import TOOLS, path

pytestmark = pytest.mark.needs("java", "envoy", "peers/readers")

BUILT: Final = TOOLS / "peers/readers"


class Jwx:
    """A process in Go that verifies each line."""

    def __init__(self, url: str) -> None:
        command = [str(BUILT / "go/readers"), url, ISSUER, "orders", "1"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def verify(self, token: str) -> str:
        """Return "ok", or why the token is refused."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{token}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        """End it."""
        self.process.communicate(timeout=120)


@contextmanager
def spring(keys: str, folder: Path) -> Iterator[str]:
    """Run the resource server; yield its URL."""
    address = free_address()
    host, _, port = address.rpartition(":")
    resource = "--spring.security.oauth2.resourceserver.jwt."
    program = Process(
        "Spring",
        [
            path("java"),
            "-cp",
            f"{BUILT / 'java/target/classes'}:{BUILT / 'java/target/dependency'}/*",
            "orders.Orders",
            f"--server.address={host}",
            f"--server.port={port}",
            f"{resource}jwk-set-uri={keys}",
            f"{resource}issuer-uri={ISSUER}",
            f"{resource}audiences=orders",
            f"{resource}jws-algorithms=ES256",
        ],
        log=folder / "spring.log",
        fix="read its log",
    )
    program.start()
    try:
        program.wait_until(lambda: answers(address))
        yield f"http://{address}/orders"
    finally:
        program.kill()


def answers(address: str) -> bool:
    """Whether it serves: without a token, 401."""
    try:
        return send(f"http://{address}/orders").status == 401
    except OSError:
        return False


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The sidecar behind Envoy; a key waits for 4 s, and readers may cache for 1 s."""
    with run() as started:
        yield started


def test_over_a_rotation_every_token_is_accepted(stack: Stack, tmp_path: Path) -> None:
    """By both, from before the new key until the old one is gone; they name the key that signed."""
    keys = f"{stack.admin}{KEYS}"
    with ExitStack() as running:
        jwx = Jwx(keys)
        running.callback(jwx.close)
        url = running.enter_context(spring(keys, tmp_path))
        seen: dict[str, int] = {}

        def use(number: int) -> str:
            token = stack.token(stack.ask(sub=f"user-{number}"))
            assert jwx.verify(token) == "ok"
            answer = send(url, headers=[("Authorization", f"Bearer {token}")])
            assert answer.status == 200, answer.headers
            kid: str = jwt.get_unverified_header(token)["kid"]
            assert answer.json() == {"sub": f"user-{number}", "kid": kid, "scope": "read"}
            seen[kid] = seen.get(kid, 0) + 1
            return kid

        first, number = use(0), 0
        assert send(f"{stack.admin}/signing/rotate", method="POST").status == 202
        while first in {key["kid"] for key in stack.keys()["keys"]}:
            number += 1
            use(number)
    assert len(seen) == 2
    assert min(seen.values()) > 1


def test_what_is_not_ours_is_refused(stack: Stack, tmp_path: Path) -> None:
    """The caller's own token, one with another signature, one without: by both."""
    keys = f"{stack.admin}{KEYS}"
    with ExitStack() as running:
        jwx = Jwx(keys)
        running.callback(jwx.close)
        url = running.enter_context(spring(keys, tmp_path))
        good = stack.token(stack.ask())
        assert jwx.verify(good) == "ok"
        head, payload, signature = good.split(".")
        for token in (stack.idp.mint(sub="alice"), f"{head}.{payload}.{signature[::-1]}", f"{head}.{payload}."):
            assert jwx.verify(token) != "ok"
            assert send(url, headers=[("Authorization", f"Bearer {token}")]).status == 401
