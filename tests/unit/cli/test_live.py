"""Proves `authz explain --live` and `authz tail`: what a running sidecar says, asked at its admin port."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authz.admin.server import AdminServer
from authz.cli import main
from authz.config.address import TcpAddress
from authz.config.model import Console
from authz.core.decision import Allow, AuditTrail, Deny
from authz.core.reasons import Reason
from authz.runtime.console import console_routes
from authz.telemetry.check_record import CheckRecord
from tests.fixtures import A_EC, T, ask, mint
from tests.unit.runtime.looking import Running
from tests.unit.runtime.test_insight import CONFIG
from tests.unit.telemetry.capturing import logging_to

Run = Callable[..., Result]


@pytest.fixture
def running(tmp_path: Path) -> Running:
    """A configuration in use, under which some requests were decided."""
    file = tmp_path / "authz.yaml"
    file.write_text(CONFIG)
    with logging_to():
        running = Running(file)
        trail = AuditTrail(rule="items", issuer="a", subject="bob\n")
        request = ask(mint(), source_address="192.0.2.7")
        running.active.report(CheckRecord(Deny(Reason.TOKEN_EXPIRED, trail, "expired"), "id-1", request, 0.001))
        running.active.report(CheckRecord(Allow(reason=Reason.PUBLIC, trail=AuditTrail()), "id-2", ask(), 0.001))
    return running


@pytest.fixture
def admin(running: Running) -> Iterator[str]:
    """The URL of its admin port."""
    server = AdminServer(TcpAddress("127.0.0.1", 0), console_routes(running.insight, Console()))
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, list(arguments))


def test_a_running_sidecar_explains(admin: str, tmp_path: Path) -> None:
    """With its keys, which the file on this desk does not have; the exit code is that of the decision."""
    token = tmp_path / "token"
    token.write_text(mint(A_EC))
    arguments = ("explain", "--live", "--admin", admin, "--path", "/items/1", "--at", str(T))
    allowed = run(*arguments, "--token-file", str(token))
    assert allowed.exit_code == 0
    assert allowed.output.splitlines()[-1] == "allow authenticated"
    denied = run(*arguments, "--header", "x-a: 1", "--context", "a=b", "--address", "192.0.2.1")
    assert denied.exit_code == 1
    assert denied.output.splitlines()[-1].startswith("deny token_missing, HTTP 401: ")
    (explained,) = json.loads(run(*arguments, "--json").output)
    assert explained["reason"] == "token_missing"


def test_a_sidecar_is_found_by_its_configuration(running: Running, admin: str, tmp_path: Path) -> None:
    """Its address, and its token if there is one; without the token no one is answered."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    console = Console(token_file=str(secret))
    server = AdminServer(TcpAddress("127.0.0.1", 0), console_routes(running.insight, console))
    server.start()
    try:
        file = tmp_path / "other.yaml"
        listen = f'admin: {{listen: "127.0.0.1:{server.port}", console: {{token_file: {secret}}}}}'
        file.write_text(CONFIG.replace('admin: {listen: "127.0.0.1:0"}', listen))
        assert run("tail", "--kept", "--config", str(file)).exit_code == 0
        assert run("explain", "--live", "--config", str(file), "--path", "/public/x").exit_code == 0
        refused = run("tail", "--kept", "--admin", f"http://127.0.0.1:{server.port}")
        assert (refused.exit_code, "HTTP status 401" in refused.output) == (1, True)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--live", "--jwks", __file__], "leave out --jwks"),
        (["--admin", "http://127.0.0.1:1"], "--admin requires --live"),
        ([], "Missing option '--config'"),
        (["--live", "--admin", "http://127.0.0.1:1"], "no explanation from http://127.0.0.1:1"),
        (["--live", "--admin", "ftp://x"], "write a URL such as"),
    ],
)
def test_a_question_to_nobody_says_why(arguments: list[str], message: str) -> None:
    """With the exit code of bad arguments."""
    result = run("explain", *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_tail_shows_what_is_kept(admin: str) -> None:
    """One line each, in which no text of a client makes another line."""
    result = run("tail", "--kept", "--admin", admin)
    assert result.exit_code == 0
    second, first = sorted(result.output.splitlines())
    assert "deny token_expired GET api.test/items/1 rule=items issuer=a subject=bob\\x0a" in first
    assert first.endswith("id=id-1: expired")
    assert "allow public" in second


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--reason", "public"], ["id-2"]),
        (["--decision", "deny"], ["id-1"]),
        (["--rule", "items"], ["id-1"]),
        (["--issuer", "b"], []),
        (["--subject", "bob\n"], ["id-1"]),
        (["--client", "192.0.2.7"], ["id-1"]),
        (["--id", "id-2"], ["id-2"]),
    ],
)
def test_a_tail_is_filtered(admin: str, arguments: list[str], found: list[str]) -> None:
    """By the sidecar: only what is asked for crosses."""
    result = run("tail", "--kept", "--json", "--admin", admin, *arguments)
    assert [json.loads(line)["decision_id"] for line in result.output.splitlines()] == found


def test_a_tail_of_nobody_says_why() -> None:
    """With where it asked."""
    result = run("tail", "--kept", "--admin", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "no decisions from http://127.0.0.1:1" in result.output
