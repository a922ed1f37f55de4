"""Proves the review of an Envoy configuration: each thing that is looked for is found where it is, and only there."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
import yaml

from authz.config.document import parse_document
from authz.config.load import parse
from authz.config.model import Config
from authz.tooling.envoy_config.finding_kinds import FINDING_KINDS, Level
from authz.tooling.envoy_config.review import Finding, review
from tests.tools import ROOT
from tests.unit.tooling import envoy_broken, envoy_bypasses
from tests.unit.tooling.envoy_broken import Envoy, Spoilt, good
from tests.unit.tooling.envoy_samples import sample

CASES = {**envoy_broken.CASES, **envoy_bypasses.TAKEN_BY_ENVOY, **envoy_bypasses.ENVOY_REFUSES}
HARMLESS = {**envoy_broken.HARMLESS, **envoy_bypasses.HARMLESS}


def look(data: object, config: Config) -> list[Finding]:
    """Review *data* as a file."""
    return review(parse_document(json.dumps(data, indent=1), file="envoy.json"), config)


@pytest.mark.parametrize("case", [*CASES.values(), *HARMLESS.values()], ids=[*CASES, *HARMLESS])
def test_what_is_found(case: Spoilt) -> None:
    """A good file that is broken in one way: just that is found, with the place; in YAML as in JSON."""
    config = sample(case.config, workers=case.workers)
    data = good(config)
    case.spoil(Envoy(data))
    found = look(data, config)

    assert sorted(finding.name for finding in found) == sorted(case.names), list(map(str, found))
    assert case.word in "".join(map(str, found))
    again = review(parse_document(yaml.safe_dump(data), file="envoy.yaml"), config)
    assert sorted(each.path for each in again) == sorted(each.path for each in found)


def test_everything_that_is_looked_for_is_proved() -> None:
    """Each kind has a file in which it is found."""
    assert {name for case in CASES.values() for name in case.names} == set(FINDING_KINDS)


def test_every_kind_says_what_to_do() -> None:
    """What it means and how to fix it, in lines that need no more."""
    for name, kind in FINDING_KINDS.items():
        assert kind.what, name
        assert kind.fix, name
        assert not kind.what.endswith("."), name


def test_a_finding_names_its_line() -> None:
    """The line is that of the value, or of what it is missing from."""
    config = sample("unix")
    data = good(config)
    data["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["normalize_path"] = False
    text = json.dumps(data, indent=1)
    (finding,) = review(parse_document(text, file="envoy.json"), config)
    assert '"normalize_path": false' in text.splitlines()[finding.line - 1]
    assert finding.document()["level"] == "finding"


def test_a_listener_on_its_own_is_reviewed_too() -> None:
    """What comes by discovery is a file of its own: a listener, its cluster elsewhere."""
    config = sample("unix")
    listener = good(config)["static_resources"]["listeners"][0]
    assert [finding.name for finding in look({"resources": [listener]}, config)] == ["cluster-unseen"]


def dumped(data: Any) -> dict[str, Any]:  # noqa: ANN401 - a bootstrap
    """What Envoy's `/config_dump` says when all of *data* came by discovery (`envoy.admin.v3.ConfigDump`)."""
    admin = "type.googleapis.com/envoy.admin.v3"
    static = data["static_resources"]
    listeners, clusters = deepcopy(static["listeners"]), deepcopy(static["clusters"])
    routes = []
    for number, listener in enumerate(listeners):
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        route_config = {"@type": ROUTES, "name": f"routes-{number}", **manager.pop("route_config")}
        manager["rds"] = {"route_config_name": route_config["name"]}
        routes.append({"route_config": route_config})
    active = [{"name": each.get("name", ""), "active_state": {"listener": each}} for each in listeners]
    return {
        "configs": [
            {"@type": f"{admin}.BootstrapConfigDump", "bootstrap": {"admin": data["admin"]}},
            {
                "@type": f"{admin}.ClustersConfigDump",
                "dynamic_active_clusters": [{"cluster": {"@type": CLUSTER, **each}} for each in clusters],
            },
            {"@type": f"{admin}.ListenersConfigDump", "dynamic_listeners": active},
            {"@type": f"{admin}.RoutesConfigDump", "dynamic_route_configs": routes},
        ]
    }


CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


def test_clusters_and_routes_of_a_dump_are_seen() -> None:
    """What Envoy's admin interface prints has clusters, routes and the bootstrap in places of their own."""
    config = sample("unix")
    assert look(dumped(good(config)), config) == []


def test_a_dump_hides_nothing() -> None:
    """Of each way to spoil a file, what is found in the file is found in a dump of it."""
    for name, case in CASES.items():
        config = sample(case.config, workers=case.workers)
        data = good(config)
        case.spoil(Envoy(data))
        try:
            dump = dumped(data)
        except (KeyError, TypeError):  # no route_config to move, or nothing to dump
            continue
        found = {finding.name for finding in look(dump, config)}
        told = {"others-unseen"} if name == "listeners from discovery" else set()  # the dump has them
        assert found >= set(case.names) - {"routes-unseen", "cluster-unseen"} - told, name


def test_clusters_that_come_by_discovery_are_seen() -> None:
    """A file of resources has each with its type."""
    config = sample("unix")
    static = good(config)["static_resources"]
    clusters = [{"@type": CLUSTER, **each} for each in static["clusters"]]
    assert look({"resources": [static["listeners"][0], *clusters]}, config) == []


def test_the_file_of_the_deploy_folder() -> None:
    """The bootstrap that is made from the charts: a route that is off, as its example wants, and a port for probes."""
    values = yaml.safe_load((ROOT / "deploy/envoy/values.yaml").read_text(encoding="utf-8"))
    config = parse(json.dumps(values["authz"]["config"]), file="values.yaml")
    text = (ROOT / "deploy/envoy/envoy.yaml").read_text(encoding="utf-8")
    found = review(parse_document(text, file="envoy.yaml"), config)
    assert [finding.name for finding in found] == ["route-not-checked", "other-listener"]
    assert [finding.kind.level for finding in found] == [Level.FINDING, Level.NOTE]


@pytest.mark.parametrize("junk", [None, [], "x", 1, {"static_resources": []}, {"static_resources": {"listeners": 1}}])
def test_junk_is_no_clean_file(junk: object) -> None:
    """What is no Envoy configuration is said to be none."""
    assert [finding.name for finding in look(junk, sample("unix"))] == ["nothing-found"]
