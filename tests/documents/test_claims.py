"""Proves what the pages say of the project and of others, as far as it can be looked up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from typing import Final

import pytest

from authz import __version__
from tests.documents.pages import links, relative
from tests.tools import ROOT, path

CONTRIBUTING: Final = ROOT / ".github/CONTRIBUTING.md"
COMPARISON: Final = ROOT / "deploy/COMPARISON.md"
SECURITY_MODEL: Final = ROOT / "deploy/SECURITY-MODEL.md"
VERIFICATION: Final = ROOT / "authz/core/VERIFICATION.md"
TEST: Final = re.compile(r"`tests/[\w/]+\.py::test_\w+`")


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a text, each as rows of cells, without head and rule."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in one.splitlines()[2:]] for one in found]


def test_every_refusal_names_its_test() -> None:
    """Each row of what is refused has a border or stands below one, an attack, an outcome, and tests that there are."""
    _, refused = tables(SECURITY_MODEL.read_text(encoding="utf-8"))
    assert len(refused) > 30
    assert refused[0][0]
    for _, attack, outcome, proof in refused:
        assert attack
        assert outcome
        assert TEST.findall(proof), attack
        for name in TEST.findall(proof):
            file, _, test = name.strip("`").partition("::")
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), name


def test_every_check_names_its_proof() -> None:
    """The files and folders in the last column of VERIFICATION's first table are below tests/."""
    first, *_ = tables(VERIFICATION.read_text(encoding="utf-8"))
    proofs = [place for row in first for place in re.findall(r"`([^`]+)`", row[-1])]
    assert len(proofs) > 20
    for place in proofs:
        assert (ROOT / "tests" / place).exists(), place


def test_every_word_about_others_has_its_source() -> None:
    """Each row about another project ends in a link to something of theirs."""
    text = COMPARISON.read_text(encoding="utf-8")
    envoys, refused, *others, ours = tables(text)
    addresses = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))
    assert len(others) == 3
    assert refused  # by tests/shapes, which compare
    for row in (row for table in (envoys, *others) for row in table):
        assert re.search(r"\]\[([^\]]+)\]", row[-1]), row
    assert all(address.startswith("https://") for address in addresses.values())
    assert all("](" in row[-1] for row in ours)


def test_readme_compares_with_those_who_have_a_section() -> None:
    """The columns of the README's table are the projects that the longer page is about."""
    head = re.search(r"^\| \| authz \|(.*)\|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert head
    named = [re.sub(r"[\[\]`]", "", column).split("][")[0] for column in head[1].split("|")]
    sections = re.findall(r"^## (.*)$", COMPARISON.read_text(encoding="utf-8"), re.MULTILINE)
    words = [("jwt_authn", "jwt_authn"), ("Authorino", "Authorino"), ("OPA", "OPA"), ("heimdall", "heimdall")]
    assert len(named) == len(words) == len(sections) - 1
    for column, section, (short, long) in zip(named, sections, words, strict=False):
        assert short in column
        assert long in section


@pytest.mark.needs("xds-protos")
def test_envoy_s_filter_has_no_field_to_fetch_an_unknown_key() -> None:
    """What is said of jwt_authn's RemoteJwks holds for Envoy's own definition; a new field is a new look."""
    program = (
        "from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2\n"
        "print(*(field.name for field in config_pb2.RemoteJwks.DESCRIPTOR.fields))"
    )
    environment = os.environ | {"PYTHONPATH": path("xds-protos")}
    argv = [sys.executable, "-c", program]
    said = subprocess.run(argv, cwd="/", env=environment, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["http_uri", "cache_duration", "async_fetch", "retry_policy"]


def test_floors_are_those_of_the_linter() -> None:
    """CONTRIBUTING names every module of the house on its floor, in the order that lint-imports holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["id"] == "floors")
    held = [name for layer in layers for name in re.findall(r"\w+", layer) if name != "__main__"]
    _, floors, *_ = tables(CONTRIBUTING.read_text(encoding="utf-8"))
    shown = [name for row in floors for name in re.findall(r"`(\w+)`", row[1])]
    assert sorted(shown) == sorted(held)
    above = {name: place for place, layer in enumerate(layers) for name in re.findall(r"\w+", layer)}
    assert [above[name] for name in shown] == sorted(above[name] for name in shown)


def test_contributing_fits_on_a_page() -> None:
    """Nobody reads a second one."""
    assert len(CONTRIBUTING.read_text(encoding="utf-8").splitlines()) <= 95


def test_changelog_is_kept() -> None:
    """It has an unreleased part, or one for the version that the code has."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in text or "## [Unreleased]\n" in text


def test_policy_says_how_to_report() -> None:
    """SECURITY is linked from the README and says where a report goes."""
    assert ".github/SECURITY.md" in links(ROOT / "README.md")
    assert "Report a vulnerability" in (ROOT / ".github/SECURITY.md").read_text(encoding="utf-8")
    assert relative(CONTRIBUTING) in links(ROOT / "README.md")
