"""Helm as a user runs it, on a copy of deploy/ with the dependencies in place."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.tools import ROOT, TOOLS

DEPLOY: Final = ROOT / "deploy"
HELMS: Final = ("helm3", "helm4")
KINDS_OF_OPERATORS: Final = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "HTTPRoute"}

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # what is rendered is long, and Python reads it slowly

# Helm runs for a tenth of a second, some 500 times: without Go's garbage collection a fifth less.
_BRIEF: Final = os.environ | {"GOGC": "off"}

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Charts:
    """A copy of deploy/ in *folder*."""

    folder: Path

    @property
    def app(self) -> Path:
        return self.folder / "charts/authz"

    @property
    def library(self) -> Path:
        return self.folder / "charts/authz-sidecar"

    @property
    def injection(self) -> Path:
        return self.folder / "charts/authz-injection"

    @property
    def consumer(self) -> Path:
        return self.folder / "examples/own-chart"

    @property
    def cases(self) -> list[tuple[Path, Path | None]]:
        """Every chart with every file of values that it must take."""
        return [*((self.app, file) for file in sorted(self.app.glob("ci/*-values.yaml"))), (self.consumer, None)]

    def run(self, helm: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one Helm, whatever comes of it."""
        argv = [str(TOOLS / "helm" / helm), *map(str, arguments)]
        return subprocess.run(argv, cwd=self.folder, env=_BRIEF, check=False, capture_output=True, text=True)

    def say(self, helm: str, *arguments: str | Path) -> str:
        """Run one Helm, and return what it printed."""
        done = self.run(helm, *arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def render(self, chart: Path, *arguments: str | Path, helm: str = "helm4", kube: str = "1.37") -> list[Document]:
        """Render a chart as the release `orders`."""
        text = self.say(helm, "template", "orders", chart, "--namespace", "shop", "--kube-version", kube, *arguments)
        return [document for document in yaml.load_all(text, Loader=_LOADER) if document]

    def case(self, chart: Path, values: Path | None, **options: str) -> list[Document]:
        """Render one of the cases."""
        return self.render(chart, *(() if values is None else ("--values", values)), **options)

    def with_values(self, name: str, changes: Mapping[str, Any], **options: str) -> list[Document]:
        """Render the application chart with `ci/NAME-values.yaml` and *changes*, which win."""
        extra = self.folder / "changes.yaml"
        extra.write_text(yaml.safe_dump(dict(changes)), encoding="utf-8")
        return self.render(self.app, "--values", self.app / f"ci/{name}-values.yaml", "--values", extra, **options)


def only(documents: list[Document], kind: str, *, name: str | None = None) -> Document:
    """The one document of a kind, and where given of a name."""
    found = [
        document for document in documents if document["kind"] == kind and name in {None, document["metadata"]["name"]}
    ]
    assert len(found) == 1, f"{len(found)} documents of kind {kind}"
    return found[0]


def pod_specs(documents: list[Document]) -> list[Document]:
    """The specs of all pods that the documents make."""
    return [
        document["spec"]["template"]["spec"] if document["kind"] in {"Deployment", "Job"} else document["spec"]
        for document in documents
        if document["kind"] in {"Deployment", "Job", "Pod"}
    ]


def containers(spec: Document) -> list[Document]:
    """All containers of a pod."""
    return [*(spec.get("initContainers") or []), *spec["containers"]]


def container(spec: Document, name: str) -> Document:
    """One container of a pod."""
    (found,) = (one for one in containers(spec) if one["name"] == name)
    return found
