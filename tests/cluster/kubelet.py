"""What a node does with a pod, as far as the sidecar and its Envoy are concerned: mounts, tokens, order of start."""

from __future__ import annotations

import base64
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authz.demo.envoy import binary
from authz.demo.process import Process
from tests.chart.harness import passes, patient, write
from tests.chart.helm import Document, containers
from tests.cluster.apiserver import Cluster
from tests.tools import path


@dataclass(slots=True)
class Node:
    """Runs one pod: *folder* stands for its root, in which each mount is a folder of its own.

    *envoy_admin* is the port for Envoy's admin interface, which is fixed inside of a pod.
    """

    cluster: Cluster
    pod: Document
    folder: Path
    envoy_admin: int
    processes: dict[str, Process] = field(default_factory=dict)
    _folders: dict[str, Path] = field(default_factory=dict)

    def start(self) -> None:
        """Mount the volumes, then start the containers in the order of the pod, each when the one before it started."""
        spec = self.pod["spec"]
        for volume in spec.get("volumes", []):
            for mount, path_in_pod in self._mounts_of(volume["name"]):
                self._folders[path_in_pod] = self.folder / mount
        for volume in spec.get("volumes", []):
            self._mount(volume, self.folder / volume["name"])
        started: list[Callable[[], None]] = []
        for one in containers(spec):
            if one["name"] in {"authz", "envoy"}:
                self._start(one)
                started.append(self._readiness(one))
        for wait in started:
            wait()

    def stop(self) -> None:
        """Stop all containers, the last one first."""
        for process in reversed(self.processes.values()):
            process.stop()

    def file(self, path_in_pod: str) -> Path:
        """Where a file of the pod is."""
        return Path(self._here(path_in_pod))

    # Containers.

    def _start(self, one: Document) -> None:
        command = [sys.executable, "-m", "authz"] if one["name"] == "authz" else [str(binary())]
        arguments = [self._here(argument) for argument in one["args"]]
        log = self.folder / f"{one['name']}.log"
        argv = [path("env"), *self._environment(one), *command, *arguments]
        process = Process(f"the container {one['name']}", argv, log=log, fix="read its log")
        self.processes[one["name"]] = process
        process.start()
        process.wait_until(lambda: passes(one, "startupProbe"))

    def _readiness(self, one: Document) -> Callable[[], None]:
        return lambda: self.processes[one["name"]].wait_until(lambda: passes(one, "readinessProbe"))

    def _environment(self, one: Document) -> list[str]:
        values: dict[str, str] = {}
        for variable in one.get("env", []):
            field_path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            value = self._field(field_path) if field_path else variable["value"]
            values[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], value)
        return [f"{name}={value}" for name, value in values.items()]

    def _field(self, field_path: str) -> str:
        found: Any = self.pod
        for name in field_path.split("."):
            found = found[name]
        return str(found)

    # Volumes.

    def _mounts_of(self, volume: str) -> Iterator[tuple[str, str]]:
        for one in containers(self.pod["spec"]):
            for mount in one.get("volumeMounts", []):
                if mount["name"] == volume:
                    yield volume, mount["mountPath"]

    def _mount(self, volume: Document, folder: Path) -> None:
        if "emptyDir" in volume:
            folder.mkdir()
        elif "configMap" in volume:
            texts = self._config_map(volume["configMap"]["name"])
            write({"data": {name: self._fit(text) for name, text in texts.items()}}, folder)
        elif "secret" in volume:
            folder.mkdir()
            for name, blob in self._get("secret", volume["secret"]["secretName"])["data"].items():
                (folder / name).write_bytes(base64.b64decode(blob))
        elif "projected" in volume:
            folder.mkdir()
            for source in volume["projected"]["sources"]:
                for name, text in self._project(source):
                    (folder / name).write_text(text, encoding="ascii")

    def _project(self, source: Document) -> Iterator[tuple[str, str]]:
        if "serviceAccountToken" in source:
            asked = source["serviceAccountToken"]
            metadata, account = self.pod["metadata"], self.pod["spec"]["serviceAccountName"]
            audience = asked.get("audience")
            yield asked["path"], self.cluster.token(metadata["namespace"], account, audience=audience, pod=self.pod)
        else:
            texts = self._config_map(source["configMap"]["name"])
            for item in source["configMap"]["items"]:
                yield item["path"], texts[item["key"]]

    def _get(self, kind: str, name: str) -> Document:
        return self.cluster.get(kind, name, self.pod["metadata"]["namespace"])

    def _config_map(self, name: str) -> Mapping[str, str]:
        texts: Mapping[str, str] = self._get("configmap", name)["data"]
        return texts

    # The root.

    def _here(self, text: str) -> str:
        """The same text, in which each path of a mount is that of its folder here."""
        mounts = sorted(map(re.escape, self._folders), key=len, reverse=True)
        return re.sub(rf"(?:{'|'.join(mounts)})(?![\w-])", lambda found: str(self._folders[found[0]]), text)

    def _fit(self, text: str) -> str:
        """A mounted file, with folders and ports of this machine, and for Envoy with the patience that it needs."""
        text = self._here(text)
        if "static_resources:" in text:
            text = patient(text).replace("port_value: 9901", f"port_value: {self.envoy_admin}")
        return text


@contextmanager
def running(cluster: Cluster, pod: Document, *, envoy_admin: int) -> Iterator[Node]:
    """Run a pod that the API server has, until both containers are ready; and stop it, even if they never are."""
    # Short, and readable for all: paths of sockets have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="node-") as folder:
        node = Node(cluster, pod, Path(folder), envoy_admin)
        try:
            node.start()
            yield node
        finally:
            node.stop()


def pod_of(deployment: Document, name: str) -> Document:
    """The pod that a Deployment would make."""
    template = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": name, "namespace": deployment["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
