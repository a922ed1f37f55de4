"""Proves that requirements.lock is closed: whatever is installed from it finds there all that it requires."""

from __future__ import annotations

import tomllib
from importlib.metadata import distributions
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tools import ROOT

PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


class Environment:
    """Distributions that are installed, by name: the version of each, and what it requires."""

    def __init__(self, found: dict[str, tuple[str, list[str]]]) -> None:
        """*found* has a version and requirements for each name."""
        self._found = {canonicalize_name(name): value for name, value in found.items()}

    def missing(self, wanted: list[str]) -> set[str]:
        """Name what *wanted* requires and is not there, however far away; extras count, other than to `pip check`."""
        missing, todo, seen = set(), [(text, "") for text in wanted], set()
        while todo:
            text, extra = todo.pop()
            requirement = Requirement(text)
            if (text, extra) in seen or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
                continue
            seen.add((text, extra))
            version, requires = self._found.get(canonicalize_name(requirement.name), (None, []))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                missing.add(text)
            todo += [(each, which) for each in requires for which in ("", *requirement.extras)]
        return missing


def groups(found: dict[str, Any]) -> list[str]:
    """List the requirements of groups or extras; an included group is a table, and is listed on its own."""
    return [text for group in found.values() for text in group if isinstance(text, str)]


def test_what_is_installed_is_closed() -> None:
    """Dependencies, extras and groups of the project find all that they require, through extras of extras."""
    project = PROJECT["project"]
    wanted = project["dependencies"] + groups(project["optional-dependencies"]) + groups(PROJECT["dependency-groups"])
    found = {each.metadata["Name"]: (each.version, each.requires or []) for each in distributions()}
    assert Environment(found).missing(wanted) == set(), "requirements.lock is not closed: run make lock"


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        ({"plugin": ("1.0", ["coverish[toml]>=1.0"]), "coverish": ("1.0", ['tomlish; extra == "toml"'])}, "tomlish"),
        ({"plugin": ("1.0", ["coverish>=1.1"]), "coverish": ("1.0", [])}, "coverish>=1.1"),
        ({"plugin": ("1.0", ["coverish>=1.1"])}, "coverish>=1.1"),
        ({}, "plugin"),
    ],
    ids=["of an extra", "too old", "not there", "nothing there"],
)
def test_a_gap_is_seen(found: dict[str, tuple[str, list[str]]], missing: str) -> None:
    """The search for gaps is not blind: behind an extra, too old, or not there at all."""
    (gap,) = Environment(found).missing(["plugin"])
    assert gap.startswith(missing)


def test_what_no_extra_asks_for_is_no_gap() -> None:
    """A requirement of an extra that no one asks for, or of another system, need not be there."""
    found = {"plugin": ("1.0", ['tomlish; extra == "toml"', 'winish; sys_platform == "win32"'])}
    assert Environment(found).missing(["plugin"]) == set()
