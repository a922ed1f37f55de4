"""Proves tests/tools.py and the mark `needs`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tools

NEEDY = '''
import pytest

@pytest.mark.needs("no-such-tool")
def test_needy():
    """Needs a tool that no machine has."""

@pytest.mark.needs("sh")
def test_modest():
    """Needs what everybody has."""
'''


def run_needy(folder: Path, **environment: str) -> str:
    """Run the two tests above in a pytest of their own, and return what it says."""
    (folder / "test_needy.py").write_text(NEEDY)
    inherited = {name: value for name, value in os.environ.items() if name != "REQUIRE_ALL"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-ra",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    done = subprocess.run(
        [*command, f"--rootdir={folder}", str(folder)],
        cwd=tools.ROOT,
        env=inherited | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_missing_tool_skips_by_name(tmp_path: Path) -> None:
    """A test whose tool is missing is skipped, and the summary says which test and which tool."""
    said = run_needy(tmp_path)
    assert "1 passed, 1 skipped" in said
    assert "test_needy.py::test_needy needs no-such-tool" in said


def test_missing_tool_fails_where_all_are_required(tmp_path: Path) -> None:
    """With REQUIRE_ALL=1 the same test does not pass silently: the run fails."""
    said = run_needy(tmp_path, REQUIRE_ALL="1")
    assert "1 passed, 1 error" in said
    assert "test_needy.py::test_needy needs no-such-tool" in said


@pytest.mark.needs("oidc-provider")
def test_package_of_npm_is_found_without_a_command() -> None:
    """A library has no command: it is found as the folder in which npm has put it."""
    assert tools.find("oidc-provider") == tools.TOOLS / "node_modules/oidc-provider"


def test_command_is_found_and_absence_told() -> None:
    """A command on PATH is found with its path; one that does not exist is not."""
    found = tools.find("sh")
    assert found is not None
    assert os.access(found, os.X_OK)
    assert tools.find("no-such-tool") is None


@pytest.mark.needs("envoy")
def test_an_older_release_of_a_tool_is_not_found() -> None:
    """A test that needs what came with a release is skipped with the one before it."""
    assert tools.find("envoy>=1.37") == tools.find("envoy")
    assert tools.find("envoy>=1000") is None
