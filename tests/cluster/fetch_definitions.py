"""Bring the CustomResourceDefinitions that the cluster's tests need, from the Go modules of their projects.

python tests/cluster/fetch_definitions.py FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Final

import yaml


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module with its hash (`go.sum`), its files with definitions, and the kinds that are wanted of them."""

    name: str
    hash: str
    files: str
    kinds: frozenset[str]


MODULES: Final = (
    Module(
        "sigs.k8s.io/gateway-api@v1.6.1",
        "h1:mock6phZbI6rvZerwrVNk7hVNymQgHo+6sJ81Ia7ftY=",
        "config/crd/standard/*.yaml",
        frozenset({"Gateway", "HTTPRoute"}),
    ),
    Module(
        "istio.io/api@v1.30.3",
        "h1:pPSa0uah/t7CEuwacS4rw5qK/oHGvxC0WO8i4RRGwEU=",
        "kubernetes/customresourcedefinitions.gen.yaml",
        frozenset(
            {
                "AuthorizationPolicy",
                "DestinationRule",
                "EnvoyFilter",
                "PeerAuthentication",
                "ServiceEntry",
                "Sidecar",
                "VirtualService",
            }
        ),
    ),
    Module(
        "github.com/envoyproxy/gateway@v1.9.0",
        "h1:PaOpud15v3kDCl3L5yc1TdYzggCMpRm1yRjNKmLkzHA=",
        "charts/gateway-helm/charts/crds/crds/generated/*.yaml",
        frozenset(
            {
                "Backend",
                "BackendTrafficPolicy",
                "ClientTrafficPolicy",
                "EnvoyProxy",
                "HTTPRouteFilter",
                "SecurityPolicy",
            }
        ),
    ),
    Module(
        "github.com/cert-manager/cert-manager@v1.21.2",
        "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        "deploy/crds/*.yaml",
        frozenset({"Certificate", "Issuer"}),
    ),
    Module(
        "github.com/prometheus-operator/prometheus-operator@v0.93.0",
        "h1:AohlYJT+En8TmNpAcEUJ3GsaJTAqfEBwHmGTVpRm/Io=",
        "example/prometheus-operator-crd/*.yaml",
        frozenset({"PodMonitor", "PrometheusRule", "ServiceMonitor"}),
    ),
)


class _Loader(yaml.CSafeLoader):
    """Reads a lone `=`, one of Prometheus' operators, as text: YAML 1.1 has a type of its own for it."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]  # as PyYAML itself does
        first: resolvers for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items() if first != "="
    }


def fetch(module: Module, into: Path) -> None:
    """Write the definitions of *module* into one file. Raises CalledProcessError, ValueError."""
    with TemporaryDirectory() as nowhere:  # in no module: a go.mod of another project must not count
        command = ("go", "mod", "download", "-json", module.name)
        said = subprocess.run(command, cwd=nowhere, check=True, stdout=subprocess.PIPE)
    downloaded = json.loads(said.stdout)
    if downloaded["Sum"] != module.hash:
        raise ValueError(f"{module.name}: its hash is {downloaded['Sum']}, not {module.hash}")
    found = {}
    for file in sorted(Path(downloaded["Dir"]).glob(module.files)):
        for document in yaml.load_all(file.read_text(encoding="utf-8"), Loader=_Loader):
            if document and document["kind"] == "CustomResourceDefinition":
                found[document["spec"]["names"]["kind"]] = document
    if missing := module.kinds - found.keys():
        raise ValueError(f"{module.name}: no definition of {', '.join(sorted(missing))}")
    name = module.name.replace("/", "-").replace("@", "-")
    lines = [json.dumps(found[kind]) for kind in sorted(module.kinds)]
    (into / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for each in MODULES:
        fetch(each, Path(sys.argv[1]))
