"""What a node does with a pod, as far as the sidecar and its Envoy are concerned: mounts, tokens, order of start."""

from __future__ import annotations

import base64
import re
import subprocess
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
from tests.cluster.apiserver import Cluster, Refused
from tests.tools import path

_IMAGES = {"authz": [sys.executable, "-m", "authz"], "envoy": [str(binary())]}


@dataclass(slots=True)
class Volumes:
    """The volumes of a pod, each a folder in *folder*; *fit* changes the texts of its ConfigMaps."""

    cluster: Cluster
    pod: Document
    folder: Path
    fit: Callable[[str], str] = str
    _folders: dict[str, Path] = field(default_factory=dict)

    def mount(self) -> None:
        """Make the folders, with what is in the cluster now."""
        for one in containers(self.pod["spec"]):
            for mount in one.get("volumeMounts", []):
                self._folders[mount["mountPath"]] = self.folder / mount["name"]
        for volume in self.pod["spec"].get("volumes", []):
            self._fill(volume, self.folder / volume["name"])

    def here(self, text: str) -> str:
        """The same text, in which each path of a mount is that of its folder."""
        mounts = sorted(map(re.escape, self._folders), key=len, reverse=True)
        if not mounts:
            return text
        return re.sub(rf"(?:{'|'.join(mounts)})(?![\w-])", lambda found: str(self._folders[found[0]]), text)

    def _fill(self, volume: Document, folder: Path) -> None:
        if "configMap" in volume:
            texts = {name: self.fit(self.here(text)) for name, text in self._config_map(volume["configMap"])}
            write({"data": texts}, folder)
            return
        folder.mkdir()
        if "secret" in volume:
            for name, blob in self._get("secret", volume["secret"]["secretName"])["data"].items():
                (folder / name).write_bytes(base64.b64decode(blob))
        for source in volume.get("projected", {}).get("sources", []):
            texts = {**dict(self._config_map(source["configMap"]))} if "configMap" in source else self._token(source)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="ascii")

    def _token(self, source: Document) -> dict[str, str]:
        asked, account = source["serviceAccountToken"], self.pod["spec"]["serviceAccountName"]
        namespace = self.pod["metadata"]["namespace"]
        token = self.cluster.token(namespace, account, audience=asked.get("audience"), pod=self.pod)
        return {asked["path"]: token}

    def _config_map(self, wanted: Document) -> Iterator[tuple[str, str]]:
        try:
            texts: Mapping[str, str] = self._get("configmap", wanted["name"])["data"]
        except Refused:
            if not wanted.get("optional"):
                raise
            texts = {}
        keys = {item["key"]: item["path"] for item in wanted.get("items", [])} or {key: key for key in texts}
        yield from ((file, texts[key]) for key, file in keys.items() if key in texts or not wanted.get("optional"))

    def _get(self, kind: str, name: str) -> Document:
        return self.cluster.get(kind, name, self.pod["metadata"]["namespace"])


@dataclass(slots=True)
class Node:
    """Runs one pod for as long as it is wanted. *envoy_admin* replaces a port that is fixed inside of a pod."""

    cluster: Cluster
    pod: Document
    folder: Path
    envoy_admin: int
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self) -> None:
        """Start the containers in the order of the pod, each when the one before it has started; await all of them."""
        volumes = Volumes(self.cluster, self.pod, self.folder, self._fit)
        volumes.mount()
        started = [one for one in containers(self.pod["spec"]) if one["name"] in _IMAGES]
        for one in started:
            argv = [path("env"), *self._environment(one), *_IMAGES[one["name"]], *map(volumes.here, one["args"])]
            log = self.folder / f"{one['name']}.log"
            process = Process(f"the container {one['name']}", argv, log=log, fix="read its log")
            self.processes[one["name"]] = process
            process.start()
            self._await(one, "startupProbe")
        for one in started:
            self._await(one, "readinessProbe")

    def stop(self) -> None:
        """Stop all containers, the last one first."""
        for process in reversed(self.processes.values()):
            process.stop()

    def _await(self, one: Document, probe: str) -> None:
        self.processes[one["name"]].wait_until(lambda: passes(one, probe))

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

    def _fit(self, text: str) -> str:
        """A mounted file, for Envoy with the patience that it needs here."""
        if "static_resources:" in text:
            text = patient(text).replace("port_value: 9901", f"port_value: {self.envoy_admin}")
        return text


@contextmanager
def running(cluster: Cluster, pod: Document, *, envoy_admin: int) -> Iterator[Node]:
    """Run a pod that the API server has, until both containers are ready; and stop it, even if they never are."""
    # A short path: that of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="node-") as folder:
        node = Node(cluster, pod, Path(folder), envoy_admin)
        try:
            node.start()
            yield node
        finally:
            node.stop()


def run_once(cluster: Cluster, pod: Document) -> tuple[bool, str]:
    """Run the containers of a pod one after the other, each of the sidecar's image, until one of them fails.

    Return whether none did, and what they have printed.
    """
    said = ""
    with tempfile.TemporaryDirectory(prefix="node-") as folder:
        volumes = Volumes(cluster, pod, Path(folder))
        volumes.mount()
        for one in containers(pod["spec"]):
            command = [sys.executable, *one["command"][1:]] if "command" in one else _IMAGES["authz"]
            argv = [*command, *map(volumes.here, one.get("args", []))]
            argv = [volumes.here(argument) for argument in argv]
            done = subprocess.run(argv, check=False, capture_output=True, text=True)
            said += done.stdout + done.stderr
            if done.returncode:
                return False, said
    return True, said


def pod_of(owner: Document, name: str) -> Document:
    """The pod that a Deployment or a Job makes."""
    template = owner["spec"]["template"]
    metadata = {**template["metadata"], "name": name, "namespace": owner["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
