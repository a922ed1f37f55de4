"""Proves every block of YAML, TOML and JSON in the pages, each in the way that fits what it is.

1. A whole configuration goes through `authz check-config` as it stands.
2. Sections of one are put in place of those of the smallest configuration, and loaded.
3. Values of the chart are evaluated by its schema, and the configuration in them is loaded.
4. Routes are put into the plain bootstrap, and evaluated by the real Envoy.
5. A chart's dependency is that of the example chart; variables for the exporter are known to the telemetry page.

A block that is none of these fails the test.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from authz.cli import main
from authz.config.load import parse
from authz.config.model import Config
from authz.demo.envoy import binary
from tests.documents.pages import PAGES, Block, blocks
from tests.fakes.waiting import HANG_SECONDS
from tests.tools import ROOT
from tests.unit.config.sample import RULES, SMALL

Data = dict[str, Any]

CHARTS: Final = ROOT / "deploy/charts"
YAML: Final = blocks("yaml")


def is_whole(data: Data) -> bool:
    """A configuration that could be served."""
    return {"version", "issuers", "rules"} <= data.keys() <= Config.model_fields.keys()


def is_part(data: Data) -> bool:
    """Sections of a configuration."""
    return not is_whole(data) and data.keys() <= Config.model_fields.keys()


def is_values(data: Data) -> bool:
    """Values of the chart."""
    return "authz" in data


def is_routes(data: Data) -> bool:
    """Routes of Envoy."""
    return data.keys() == {"routes"}


def is_dependency(data: Data) -> bool:
    """Part of a Chart.yaml."""
    return data.keys() == {"dependencies"}


def is_environment(data: Data) -> bool:
    """Variables of the process."""
    return all(key.startswith("OTEL_") for key in data)


def check_whole(block: Block, folder: Path) -> None:
    """Run the command that the reader would run, and accept no error; warnings are the page's business."""
    file = folder / "authz.yaml"
    file.write_text(block.text, encoding="utf-8")
    done = CliRunner().invoke(main, ["check-config", str(file)])
    assert done.exit_code == 0, done.output


def check_part(block: Block, folder: Path) -> None:
    """Load the sections over the smallest configuration."""
    parse(yaml.safe_dump({**yaml.safe_load(SMALL + RULES), **yaml.safe_load(block.text)}), file=block.name)


def check_values(block: Block, folder: Path) -> None:
    """Judge by the schemas of the chart and of the library below it, and load the configuration."""
    values: Data = yaml.safe_load(block.text)
    for chart, judged in (("authz", {**values, "authz": {}}), ("authz-sidecar", values["authz"])):
        schema = json.loads((CHARTS / chart / "values.schema.json").read_text(encoding="utf-8"))
        jsonschema.validate(judged, schema, cls=jsonschema.Draft7Validator)
    parse(yaml.safe_dump(values["authz"]["config"]), file=block.name)


def check_routes(block: Block, folder: Path) -> None:
    """Put the routes where the plain bootstrap has its own, and ask Envoy."""
    bootstrap = yaml.safe_load((ROOT / "deploy/envoy/envoy.yaml").read_text(encoding="utf-8"))
    hosts = list(find_routes(bootstrap))
    assert hosts
    for host in hosts:
        host["routes"] = yaml.safe_load(block.text)["routes"]
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap), encoding="utf-8")
    argv = [str(binary()), "--mode", "validate", "--config-path", str(file)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stderr


def find_routes(node: object) -> list[Data]:
    """The virtual hosts of a bootstrap that lead to the upstream."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    here = [node] if isinstance(node, dict) and "routes" in node and "domains" in node else []
    return here + [found for child in children for found in find_routes(child)]


def check_dependency(block: Block, folder: Path) -> None:
    """Compare with the example chart, which is rendered and run; only its path is another."""
    example = yaml.safe_load((ROOT / "deploy/examples/own-chart/Chart.yaml").read_text(encoding="utf-8"))
    (ours,), (shown,) = example["dependencies"], yaml.safe_load(block.text)["dependencies"]
    assert {**ours, "repository": ""} == {**shown, "repository": ""}


def check_environment(block: Block, folder: Path) -> None:
    """Find each variable on the page that explains them."""
    page = (ROOT / "authz/telemetry/README.md").read_text(encoding="utf-8")
    for name in yaml.safe_load(block.text):
        assert f"`{name}`" in page


PROOFS: Final[Mapping[Callable[[Data], bool], Callable[[Block, Path], None]]] = {
    is_whole: check_whole,
    is_part: check_part,
    is_values: check_values,
    is_routes: check_routes,
    is_dependency: check_dependency,
    is_environment: check_environment,
}


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.name)
def test_yaml(block: Block, tmp_path: Path) -> None:
    """The block is of exactly one kind, and the proof of its kind holds."""
    data = yaml.safe_load(block.text)
    assert isinstance(data, dict)
    (proof,) = (proof for fits, proof in PROOFS.items() if fits(data))
    proof(block, tmp_path)


@pytest.mark.parametrize("fits", PROOFS, ids=lambda fits: fits.__name__)
def test_no_kind_is_left_over(fits: Callable[[Data], bool]) -> None:
    """There is a block of each kind."""
    assert any(fits(yaml.safe_load(block.text)) for block in YAML)


def test_other_data_is_well_formed() -> None:
    """Blocks of JSON and TOML are."""
    for block in blocks("json"):
        json.loads(block.text)
    for block in blocks("toml"):
        tomllib.loads(block.text)


def test_every_language_is_known() -> None:
    """A block is data, a shell's, Python's, or a drawing without any command in it."""
    for page in PAGES:
        for block in blocks("", page=page):
            assert not any(
                line.lstrip(" $").startswith(("authz ", "make ", "helm ")) for line in block.text.splitlines()
            )
    known = ("yaml", "json", "toml", "sh", "python", "")
    count = sum(page.read_text(encoding="utf-8").count("```") for page in PAGES)
    assert 2 * len(blocks(*known)) == count, "a block in another language, or one without an end"
