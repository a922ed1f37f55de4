"""Proves what all commands have in common: colour where it is wanted, progress, completion, words for every failure."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from click import Context
from click.testing import CliRunner

from authz.cli import main
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import A_RSA, jwks
from tests.tools import ROOT

SAMPLE: Final = ROOT / "tests/data/config.yaml"
NAMES: Final = main.list_commands(Context(main))
ESCAPE: Final = b"\x1b["


def on_a_terminal(*arguments: str, **environment: str) -> bytes:
    """Run `authz` with stdout and stderr on a terminal, and return all that it wrote there."""
    leader, follower = pty.openpty()
    ours = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "TERM"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env={**ours, "TERM": "xterm", **environment},
    )
    os.close(follower)
    written = b""
    try:
        while piece := os.read(leader, 4096):
            written += piece
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(leader)
        process.wait(HANG_SECONDS)
    return written


@pytest.fixture
def warned(tmp_path: Path) -> Path:
    """A configuration that has a warning."""
    file = tmp_path / "authz.yaml"
    file.write_text(SAMPLE.read_text(encoding="utf-8") + "\ninsecure:\n  shadow_all: true\n", encoding="utf-8")
    return file


def test_colour_is_for_terminals(warned: Path) -> None:
    """A terminal gets colour, unless it is dumb or someone does not want it; a pipe never does."""
    assert ESCAPE in on_a_terminal("check-config", str(warned))
    assert ESCAPE not in on_a_terminal("check-config", str(warned), NO_COLOR="1")
    assert ESCAPE not in on_a_terminal("check-config", str(warned), TERM="dumb")
    piped = subprocess.run(
        [sys.executable, "-m", "authz", "check-config", str(warned)], check=False, capture_output=True
    )
    assert ESCAPE not in piped.stdout + piped.stderr


def test_progress_is_for_terminals(tmp_path: Path) -> None:
    """What takes time says so on a terminal, and nowhere else."""
    keys = tmp_path / "jwks.json"
    keys.write_text(jwks(A_RSA), encoding="utf-8")
    file = tmp_path / "authz.yaml"
    file.write_text(
        "version: 1\n"
        f"issuers: {{a: {{issuer: x, audiences: [y], jwks_file: {keys}}}}}\n"
        "rules: [{allow: authenticated}]\n",
        encoding="utf-8",
    )
    assert b"fetching from 1 issuers" in on_a_terminal("check-config", "--fetch", str(file))
    assert "asking" not in CliRunner().invoke(main, ["check-config", "--fetch", str(file)]).output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """What is printed names the command and the variable by which a shell asks it."""
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0, result.output
    assert "_AUTHZ_COMPLETE" in result.stdout
    assert f"{shell}_complete" in result.stdout


@pytest.mark.parametrize(
    ("words", "current", "offered"),
    [
        ("authz ch", "ch", "check-config"),
        ("authz envoy-config --b", "--b", "--bootstrap"),
        ("authz envoy-config --accept fails", "fails", "fails-open"),
        ("authz completion z", "z", "zsh"),
    ],
)
def test_a_shell_gets_what_it_asks_for(words: str, current: str, offered: str) -> None:
    """Commands, options and the names of findings are completed."""
    environment = {**os.environ, "_AUTHZ_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    code = "from authz.cli import main; main(prog_name='authz')"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert f"plain,{offered}" in done.stdout.splitlines(), done.stderr
    assert offered.startswith(current)


def test_every_command_shows_how_it_is_called() -> None:
    """Help has exit codes and at least one example that begins with the command, at its top and below."""
    for name in ("", *NAMES):
        text = CliRunner().invoke(main, [*name.split(), "--help"]).output
        assert "Exit codes" in text, name
        assert f"authz {name}".strip() in text, name


def test_every_module_is_one_command() -> None:
    """What a command does is elsewhere: beside the commands there is only what they share."""
    modules = {file.stem for file in (ROOT / "authz/cli").glob("*.py")} - {
        "__init__",
        "admin_client",
        "files",
        "terminal",
    }
    assert {name.replace("_", "-") for name in modules} == set(NAMES)


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        ("health sidecar", "'sidecar'", "write unix:/path or host:port"),
        (f"health 127.0.0.1:1 --ca-file {SAMPLE}", f"{SAMPLE}: contains no PEM", "-----BEGIN"),
        ("health unix:/nowhere/authz.sock", "unix:/nowhere/authz.sock: not reached", "does `authz serve` run"),
        ("drain-envoy 127.0.0.1:1", "127.0.0.1:1: not reached", "is this Envoy's admin.address"),
        ("drain-envoy sidecar", "'sidecar'", "write host:port"),
        ("keys --admin localhost", "'localhost'", "write a URL such as http://127.0.0.1:9192"),
        ("keys --admin http://127.0.0.1:1", "no keys from http://127.0.0.1:1", "admin.listen"),
        (f"explain --config {SAMPLE} --header x", "--header: 'x'", "write NAME:VALUE"),
        (f"explain --config {SAMPLE} --at soon", "--at: 'soon' is not a time", "2026-01-31T12:00:00Z"),
        (
            f"explain --config {SAMPLE} --at 2026-01-31T12:00:00",
            "--at: '2026-01-31T12:00:00' has no time",
            "end it in Z",
        ),
        (f"explain --config {SAMPLE} --address xyz", "--address: 'xyz'", "write one without port"),
        (
            f"explain --config {SAMPLE} --certificate {SAMPLE}",
            f"--certificate: {SAMPLE}",
            "-----BEGIN CERTIFICATE-----",
        ),
        (f"envoy-config --config {SAMPLE} --listen foo", "--listen: 'foo'", "must be host:port"),
        (f"envoy-config --config {SAMPLE} --upstream foo", "--upstream: 'foo'", "must be host:port"),
        (f"envoy-config --config {SAMPLE} --admin foo", "--admin: 'foo'", "must be host:port"),
        (
            f"envoy-config --config {SAMPLE} --check {SAMPLE} --accept fail-open",
            "--accept: ",
            "did you mean `fails-open`",
        ),
        ("health --wait abc", "'--wait': 'abc'", "not a valid number of seconds"),
        (f"keys --config {SAMPLE} --admin http://127.0.0.1:9192", "--admin and --config", "give one"),
        (f"explain --config {SAMPLE} --token-file /nowhere", "'/nowhere'", "does not exist"),
        (f"envoy-config --config {SAMPLE} --sidecar a/b", "--sidecar: 'a/b'", "write a host name"),
        (f"envoy-config --config {SAMPLE} --check {ROOT / 'LICENSE'}", "LICENSE:", ""),
        ("demo --json", "--json", "--once"),
        ("completion tcsh", "'tcsh'", "'bash', 'zsh', 'fish'"),
    ],
)
def test_a_failure_says_what_and_what_to_do(arguments: str, what: str, fix: str) -> None:
    """One message, no traceback; the exit code separates mistakes of the operator from negative answers."""
    result = CliRunner().invoke(main, arguments.split())
    assert isinstance(result.exception, SystemExit), result.output
    assert result.exit_code in {1, 2}
    assert what in result.output
    assert fix in result.output
