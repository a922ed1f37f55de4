"""Proves authz.cli: what each command prints, and the exit code that it promises."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from click import Context
from click.testing import CliRunner, Result

from authz import __version__
from authz.cli import main
from authz.config.schema import json_schema
from authz.core.implementation import IMPLEMENTATION
from tests.tools import ROOT

SAMPLE = ROOT / "tests/data/config.yaml"
BAD = sorted((ROOT / "tests/data/bad").glob("*.yaml"))
COMMANDS = main.list_commands(Context(main))


def run(*arguments: str | Path) -> Result:
    """Run `authz` with these arguments."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_version_is_the_packages() -> None:
    """`authz --version` prints one line for people and scripts: the version, and the form that runs."""
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"authz {__version__} ({IMPLEMENTATION})\n")


def test_the_commands_are_there() -> None:
    """Those that run it, check it and look at it."""
    assert {"serve", "check-config", "schema", "demo"} <= set(COMMANDS)
    listed = run("--help").output
    assert all(name in listed for name in COMMANDS)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, flag: str) -> None:
    """Help begins with usage and a sentence, fits a terminal, and imports nothing that could fail."""
    result = run(command, flag)
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {command}")
    sentence = result.output.split("\n\n")[1].strip()
    assert re.fullmatch(r"[A-Z][^.]*\..*", sentence, re.DOTALL)
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_exit_codes_are_told(command: str) -> None:
    """A command that ends in several ways says in its help what each number means."""
    text = run(command, "--help").output
    if command not in {"schema", "demo"}:
        assert "Exit codes: 0 " in text


def test_a_good_file_passes() -> None:
    """The sample: exit 0, one line with what was read."""
    result = run("check-config", SAMPLE)
    assert result.exit_code == 0
    assert result.stdout == f"{SAMPLE}: ok, issuers: 1, rules: 3\n"


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_bad_file_fails(file: Path) -> None:
    """Exit 2, nothing on stdout, and each line of stderr names the file and a place in it."""
    result = run("check-config", file)
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.startswith(f"{file}:") for line in lines)


def test_warnings_do_not_fail_a_file(tmp_path: Path) -> None:
    """What its author should know goes to stderr."""
    file = tmp_path / "authz.yaml"
    file.write_text(SAMPLE.read_text() + "\ninsecure:\n  shadow_all: true\n")
    result = run("check-config", file)
    assert result.exit_code == 0
    assert re.search(r"warning: insecure\.shadow_all: ", result.stderr)
    assert result.stdout == f"{file}: ok, issuers: 1, rules: 3\n"


@pytest.mark.parametrize("arguments", [["check-config"], ["check-config", "/nowhere.yaml"], ["serve"], ["nothing"]])
def test_wrong_arguments_are_a_usage_error(arguments: list[str]) -> None:
    """Exit 2 with the usage, and no traceback."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert isinstance(result.exception, SystemExit)


def test_a_file_that_is_no_text_is_a_problem_of_the_file(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are reported like any other mistake."""
    file = tmp_path / "authz.yaml"
    file.write_bytes(b"version: \xff\n")
    result = run("check-config", file)
    assert (result.exit_code, result.stderr) == (2, f"{file}:1: is not UTF-8\n")


def test_the_schema_is_a_schema_and_accepts_the_sample() -> None:
    """`authz schema` prints draft-07 JSON Schema that takes the sample, and not a file with an unknown key."""
    result = run("schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema == json_schema()
    sample = yaml.safe_load(SAMPLE.read_text())
    validator = jsonschema.Draft7Validator(schema)
    assert list(validator.iter_errors(sample)) == []
    assert not validator.is_valid({**sample, "unknown": 1})


def test_serving_a_bad_file_is_refused_before_anything_starts() -> None:
    """Exit 2 and the same lines as check-config."""
    served, checked = run("serve", "--config", BAD[0]), run("check-config", BAD[0])
    assert (served.exit_code, served.stderr) == (2, checked.stderr)
