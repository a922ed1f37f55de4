"""Proves what holds for the whole house: order, floors, locked dependencies, and a core covered to the last branch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tools import ROOT, path

LINT: Final = ("ruff check", "ruff format --check", "mypy", "lint-imports")
ALL_OF_UNICODE: Final = (
    "test_every_way_to_change_the_case_of_a_letter_is_joined",
    "test_nothing_but_letters_is_joined",
)
TOP: Final = {"CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml", "requirements.lock"}
FOLDERS: Final = {"authz", "deploy", "findings", "protos", "tests"}
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(*command: str, **environment: str) -> None:
    """Run a command in the project's folder; what it said is the failure."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", LINT)
def test_lint(command: str) -> None:
    """Nothing to complain of: style, types and imports are in order."""
    program, *arguments = command.split()
    run(path(program), *arguments)


def test_make_lint_runs_the_same() -> None:
    """`make lint` runs what is proved above, and nothing else."""
    assert "\t" + " && ".join(f"$(BIN)/{command}" for command in LINT) + "\n" in (ROOT / "Makefile").read_text()


def test_core_is_covered(tmp_path: Path) -> None:
    """The core's own tests take every branch of it; of generated examples a few are enough for that."""
    options = "-q -p no:cacheprovider --cov=authz.core --cov-branch --cov-fail-under=100 tests/unit/core"
    for test in ALL_OF_UNICODE:  # traced, each takes a minute and more
        options += f" --deselect tests/unit/core/test_letter_case.py::{test}"
    coverage = {"COVERAGE_FILE": str(tmp_path / "coverage"), "HYPOTHESIS_PROFILE": "few"}
    run(sys.executable, "-m", "pytest", *options.split(), **coverage)


def test_top_level_is_as_agreed() -> None:
    """Nothing but the agreed files and folders stands at the top level; caches and tools hide behind a dot."""
    assert {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")} <= TOP | FOLDERS


def test_nothing_of_ours_is_importable_as_envoy() -> None:
    """No folder of ours that is on sys.path holds an `envoy`: the name belongs to Envoy's own packages."""
    ours = [
        entry for entry in sys.path if Path(entry).resolve().is_relative_to(ROOT) and not entry.startswith(sys.prefix)
    ]
    assert ours
    assert PathFinder.find_spec("envoy", ours) is None


def pins(lock: str) -> dict[str, str]:
    """Read a lock file: for each distribution its pin, environment marker and hashes, as written."""
    blocks = re.findall(r"^([A-Za-z0-9][^=\s]*)(==.*(?:\n    .*)*)", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): pin for name, pin in blocks}


def wanted(*groups: list[str | dict[str, str]]) -> list[Requirement]:
    """Parse lists of requirements; an included group is a table, and is listed on its own."""
    return [Requirement(text) for group in groups for text in group if isinstance(text, str)]


def unmet(requirements: list[Requirement], lock: dict[str, str]) -> list[str]:
    """Requirements for which *lock* has no pin, or one that they do not allow."""
    versions = {name: pin.removeprefix("==").split()[0] for name, pin in lock.items()}
    return [
        str(requirement)
        for requirement in requirements
        if canonicalize_name(requirement.name) not in versions
        or not requirement.specifier.contains(versions[canonicalize_name(requirement.name)])
    ]


def test_lock_holds_all_that_the_project_asks_for() -> None:
    """requirements.lock pins every dependency, extra and group of pyproject.toml to a release that it allows."""
    project = PROJECT["project"]
    extras, groups = project["optional-dependencies"].values(), PROJECT["dependency-groups"].values()
    lock = pins("requirements.lock")
    assert unmet(wanted(project["dependencies"], *extras, *groups), lock) == []
    assert all("--hash=sha256:" in pin for pin in lock.values())


def test_every_extra_is_tested_on_other_releases_than_the_lock_s() -> None:
    """What `make newest` installs has every optional dependency; what `make lowest` installs is what it checks."""
    extras = PROJECT["project"]["optional-dependencies"].keys()
    newest, lowest = (_installed_by(target) for target in ("newest", "lowest"))
    assert newest == extras
    assert lowest == extras - {"google"}  # its own requirements are above the lowest of ours


def _installed_by(target: str) -> set[str]:
    """Return the extras that a target installs; what else it checks the bounds of is a failure."""
    command = [path("make"), "--dry-run", target]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    extras = set(re.findall(r"--extra (\w+)", said))
    checked = re.search(r"-m tests\.install\.bounds (.*)", said)
    assert checked is None or set(checked[1].split()) == extras
    return extras


def test_image_is_what_was_tested() -> None:
    """deploy/requirements.lock is the part of requirements.lock that runs in production: same releases, same hashes."""
    project = PROJECT["project"]
    image, everything = pins("deploy/requirements.lock"), pins("requirements.lock")
    assert unmet(wanted(project["dependencies"], project["optional-dependencies"]["cel"]), image) == []
    assert image.items() <= everything.items()
    assert "pytest" not in image


@pytest.mark.parametrize("lock", ["requirements.lock", "deploy/requirements.lock"])
def test_lock_names_no_machine(lock: str) -> None:
    """A lock file has no address and no path in it: it serves wherever it is installed."""
    assert not re.search("/|--index|--find-links", (ROOT / lock).read_text())
