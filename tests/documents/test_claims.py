"""Proves what the pages say of the project and of others, as far as it can be looked up."""

from __future__ import annotations

import re
import tomllib
from typing import Final

import pytest

from authz import __version__
from authz.telemetry import names
from tests.documents.comparison import envoy_fields, renewed
from tests.documents.pages import links, relative
from tests.tools import ROOT

CONTRIBUTING: Final = ROOT / ".github/CONTRIBUTING.md"
COMPARISON: Final = ROOT / "deploy/COMPARISON.md"
README: Final = ROOT / "README.md"
SECURITY_MODEL: Final = ROOT / "deploy/SECURITY-MODEL.md"
TELEMETRY: Final = ROOT / "authz/telemetry/README.md"
VERIFICATION: Final = ROOT / "authz/core/VERIFICATION.md"
TEST: Final = re.compile(r"`tests/[\w/]+\.py::test_\w+`")


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a text, each as rows of cells, without head and rule."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in one.splitlines()[2:]] for one in found]


def test_every_refusal_names_its_test() -> None:
    """Each line of what is refused has an attack, an outcome, and tests that there are."""
    _, refused = SECURITY_MODEL.read_text(encoding="utf-8").split("## What is refused\n")
    lines = re.findall(r"^- (.*)$", refused, re.MULTILINE)
    assert len(lines) > 30
    for line in lines:
        said, _, proof = line.partition(" → ")
        assert ": " in said, line
        assert TEST.findall(proof), line
        for name in TEST.findall(proof):
            file, _, test = name.strip("`").partition("::")
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), name


def test_every_check_names_its_proof() -> None:
    """Each line of VERIFICATION has its proofs behind the arrow: files and folders below tests/."""
    lines = re.findall(r"^- .+ → (.+)$", VERIFICATION.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == VERIFICATION.read_text(encoding="utf-8").count("\n- ")
    proofs = [place for line in lines for place in re.findall(r"`([^`]+)`", line)]
    assert len(proofs) > 20
    for place in proofs:
        assert (ROOT / "tests" / place).exists(), place


def test_every_metric_and_attribute_has_its_line() -> None:
    """The page of the telemetry has each metric once, and each attribute of a span that is ours."""
    lines = re.findall(r"^- ((?:`[\w.]+`(?:, )?)+)", TELEMETRY.read_text(encoding="utf-8"), re.MULTILINE)
    shown = re.findall(r"`(authz[._][\w.]+)`", "\n".join(lines))
    ours = {value for name, value in vars(names).items() if name.isupper() and re.match(r"authz[._]", str(value))} - {
        names.REFRESH_SPAN
    }
    assert sorted(re.sub(r"_(?:total|info)$", "", name) for name in shown) == sorted(ours)


def test_every_word_about_others_has_its_source() -> None:
    """Each cell of the README's comparison that is about another project links something of theirs."""
    text = README.read_text(encoding="utf-8")
    compared = re.search(r"^\| \| authz \|.*\|\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert compared
    cells = [cell.strip() for row in compared[1].splitlines() for cell in row.strip("|").split("|")[2:]]
    assert len(cells) > 20
    for cell in cells:
        assert re.fullmatch(r"\[.+\]\[[\w-]+\]", cell), cell
    addresses = re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    assert addresses
    assert all(address.startswith("https://") for address in addresses)


@pytest.mark.needs("xds-protos")
def test_the_page_for_those_who_move_is_of_today() -> None:
    """It has Envoy's messages and the key sets that are tried; a new field of RemoteJwks is a reason to look again."""
    assert renewed() == COMPARISON.read_text(encoding="utf-8")
    assert envoy_fields()["RemoteJwks"] == ["http_uri", "cache_duration", "async_fetch", "retry_policy"]


def test_floors_are_those_of_the_linter() -> None:
    """CONTRIBUTING names every module of the house on its floor, in the order that lint-imports holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["id"] == "floors")
    held = [name for layer in layers for name in re.findall(r"\w+", layer) if name != "__main__"]
    (floors,) = tables(CONTRIBUTING.read_text(encoding="utf-8"))
    shown = [name for row in floors for name in re.findall(r"`(\w+)`", row[1])]
    assert sorted(shown) == sorted(held)
    above = {name: place for place, layer in enumerate(layers) for name in re.findall(r"\w+", layer)}
    assert [above[name] for name in shown] == sorted(above[name] for name in shown)


def test_contributing_fits_on_a_page() -> None:
    """No one reads a second one."""
    assert len(CONTRIBUTING.read_text(encoding="utf-8").splitlines()) <= 95


def test_changelog_is_kept() -> None:
    """It has an unreleased part, or one for the version that the code has."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in text or "## [Unreleased]\n" in text


def test_changelog_says_each_thing_once() -> None:
    """No two lines begin alike: a merge has brought nothing back that was rewritten."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:- |  )(.{40})", text, re.MULTILINE)
    assert sorted(lines) == sorted(set(lines))


def test_policy_says_how_to_report() -> None:
    """SECURITY is linked from the README and says where a report goes."""
    assert ".github/SECURITY.md" in links(README)
    assert "Report a vulnerability" in (ROOT / ".github/SECURITY.md").read_text(encoding="utf-8")
    assert relative(CONTRIBUTING) in links(README)
