"""Proves that what the workflows run is there, where they run it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.tools import ROOT

WORKFLOWS: Final = sorted((ROOT / ".github/workflows").glob("*.yml"))
MAKEFILE: Final = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS: Final = {
    target
    for line in re.findall(r"^([^\s#=:][^#=:]*):(?!=)", MAKEFILE, re.MULTILINE)
    for target in line.split()
    if not target.startswith(".PHONY")
}


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs of a workflow by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return found


def commands(job: dict[str, Any]) -> Iterator[str]:
    """Each line that a job runs, once for every value of its matrix."""
    matrix: dict[str, Any] = job.get("strategy", {}).get("matrix", {})
    lists = {name: values for name, values in matrix.items() if isinstance(values, list)}
    for step in job.get("steps", ()):
        for chosen in product(*lists.values()):
            text = step.get("run", "")
            for name, value in zip(lists, chosen, strict=True):
                text = text.replace(f"${{{{ matrix.{name} }}}}", value)
            yield from text.splitlines()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_makes_has_a_rule(workflow: Path) -> None:
    """`make something` of a step names a target of the Makefile; a workflow that another one calls is a file."""
    for job in jobs(workflow).values():
        for line in commands(job):
            for made in re.findall(r"\bmake (\S+)", line):
                assert made in TARGETS, line
        if "uses" in job:
            assert (ROOT / job["uses"]).is_file()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_debian_packages_are_installed_on_debian(workflow: Path) -> None:
    """`.ci/run` asks apt for Chromium, which Ubuntu, the runners' system, has as a snap alone."""
    for job in jobs(workflow).values():
        if ".ci/run" in commands(job):
            assert job["container"]["image"].endswith("-bookworm")
