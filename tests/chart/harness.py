"""What the chart renders, run: its ConfigMaps as files, its containers as processes, with an issuer and an upstream."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authz.demo.client import Answer, send
from authz.demo.envoy import binary
from authz.demo.loopback import Header, LoopbackServer
from authz.demo.process import Process
from authz.demo.upstream import echo_server, headers_seen
from tests.chart.helm import Charts, Document, container, only
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs, what it was rendered from, and the folders that stand for /etc/authz and /etc/envoy-tls.

    `front` and `telemetry` are URLs of Envoy, `admin` is one of the sidecar; `envoy_admin` is the port of Envoy's own.
    """

    documents: list[Document]
    config: Path
    certificate: Path
    idp: FakeIdp
    sidecar: Process
    envoy: Process
    front: str
    telemetry: str
    admin: str
    envoy_admin: int

    def ask(
        self,
        path: str,
        *,
        client: str,
        token: str | None = None,
        headers: Sequence[Header] = (),
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """Send one request, as the trusted proxy in front of Envoy would for a client at this address."""
        bearer = [] if token is None else [("Authorization", f"Bearer {token}")]
        return send(f"{self.front}{path}", headers=[("X-Forwarded-For", client), *headers, *bearer], tls=tls)

    def access_log(self, **wanted: object) -> dict[str, Any]:
        """The line of Envoy's access log that has these fields, once it is written."""
        found: list[dict[str, Any]] = []

        def written() -> bool:
            lines = self.envoy.log.read_text(encoding="utf-8").splitlines()
            parsed = [json.loads(line) for line in lines if line.startswith("{")]
            found[:] = [line for line in parsed if wanted.items() <= line.items()]
            return bool(found)

        wait_until(written)
        return found[-1]

    def decisions(self) -> float:
        """How many decisions the sidecar has made."""
        lines = send(f"{self.admin}/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("authz_decisions_total{"))


def seen(answer: Answer) -> dict[str, str]:
    """The header lines that the upstream saw, by name."""
    lines = headers_seen(answer)
    assert lines is not None, answer
    assert len({name for name, _ in lines}) == len(lines)
    return dict(lines)


@contextmanager
def set_stage(
    charts: Charts,
    folder: Path,
    changes: Mapping[str, Any],
    *,
    upstream: LoopbackServer | None = None,
    certificate: Document | None = None,
) -> Iterator[Stage]:
    """Render mode proxy with *changes* to its values, start what it renders, and stop it.

    Behind it is *upstream*, which is served, or one that echoes; with a Secret's *certificate*, Envoy speaks TLS.
    """
    ports = {name: int(free_address().rpartition(":")[2]) for name in ("front", "telemetry", "admin", "envoy")}
    with FakeIdp() as idp, echo_server() as echo:
        values = merge(
            {
                "authz": {
                    "adminPort": ports["admin"],
                    "socket": {"directory": str(folder)},
                    "envoy": {"trustedHops": 1, "timeoutMilliseconds": 60_000},
                    "config": {
                        "server": {"drain": "200ms"},
                        "issuers": {
                            "corporate": {"issuer": idp.issuer, "audiences": ["api"], "insecure": {"http": True}}
                        },
                    },
                },
                "proxy": {
                    "port": ports["front"],
                    "telemetryPort": ports["telemetry"],
                    "concurrency": 1,
                    "upstream": {"host": "127.0.0.1", "port": (upstream or echo).port},
                    "tls": {"existingSecret": "" if certificate is None else "orders-tls"},
                },
            },
            changes,
        )
        documents = charts.with_values("proxy", values)
        if certificate is not None:
            write(certificate, folder / "etc-envoy-tls")
        with started(documents, folder, envoy_admin=ports["envoy"]) as (sidecar, envoy):
            yield Stage(
                documents,
                folder / "etc-authz",
                folder / "etc-envoy-tls",
                idp,
                sidecar,
                envoy,
                front=f"{'http' if certificate is None else 'https'}://127.0.0.1:{ports['front']}",
                telemetry=f"http://127.0.0.1:{ports['telemetry']}",
                admin=f"http://127.0.0.1:{ports['admin']}",
                envoy_admin=ports["envoy"],
            )


@contextmanager
def started(documents: list[Document], folder: Path, *, envoy_admin: int) -> Iterator[tuple[Process, Process]]:
    """Start the two containers in the order of the pod, until both are ready; and stop them, even if they never are.

    Each is started after the startup probe of the one before it.
    """
    spec = only(documents, "Deployment")["spec"]["template"]["spec"]
    # The mounts of the pod, as folders here; the admin port is fixed inside of a pod, and may be taken here.
    config, bootstrap = folder / "etc-authz", folder / "etc-envoy"
    write(only(documents, "ConfigMap", name="orders-authz"), config)
    envoys = only(documents, "ConfigMap", name="orders-authz-envoy")
    envoys["data"]["envoy.yaml"] = patient(envoys["data"]["envoy.yaml"]).replace("value: 9901", f"value: {envoy_admin}")
    for name, text in envoys["data"].items():
        envoys["data"][name] = text.replace("/etc/envoy-tls", f"{folder}/etc-envoy-tls").replace(
            "/etc/envoy/", f"{bootstrap}/"
        )
    write(envoys, bootstrap)
    sidecar = container(spec, "authz")
    arguments = [argument.replace("/etc/authz", str(config)) for argument in sidecar["args"]]
    authz = Process("the sidecar", [sys.executable, "-m", "authz", *arguments], log=folder / "authz.log", fix="")
    proxy = container(spec, "envoy")
    arguments = [argument.replace("/etc/envoy", str(bootstrap)) for argument in proxy["args"]]
    envoy = Process("Envoy", [str(binary()), *arguments], log=folder / "envoy.log", fix="")
    try:
        authz.start()
        authz.wait_until(lambda: passes(sidecar, "startupProbe"))
        envoy.start()
        envoy.wait_until(lambda: passes(proxy, "startupProbe"))
        authz.wait_until(lambda: passes(sidecar, "readinessProbe"))
        envoy.wait_until(lambda: passes(proxy, "readinessProbe"))
        yield authz, envoy
    finally:
        envoy.stop()
        authz.stop()


def patient(bootstrap: str) -> str:
    """Let Envoy wait for the sidecar as long as this machine takes: what is tested are decisions, and not timeouts."""
    for bound in ("connect_timeout: 0.25s", "- timeout: 1s"):
        assert bound in bootstrap
        bootstrap = bootstrap.replace(bound, bound.rpartition(" ")[0] + " 60s")
    return bootstrap


def write(config_map: Document, folder: Path) -> None:
    """Write a ConfigMap or Secret as the kubelet mounts it: a folder that one link is turned to, over and over."""
    folder.mkdir(exist_ok=True)
    version = folder / f"..version_{len(list(folder.glob('..version_*')))}"
    version.mkdir()
    for name, text in config_map["data"].items():
        (version / name).write_text(text, encoding="utf-8")
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").replace(folder / "..data")


def passes(one: Document, probe: str) -> bool:
    """Whether a probe of a container passes now."""
    asked = one[probe]["httpGet"]
    (port,) = (port["containerPort"] for port in one["ports"] if port["name"] == asked["port"])
    try:
        return send(f"http://127.0.0.1:{port}{asked['path']}").status == 200
    except OSError:
        return False


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with changes over them, key by key."""
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, change) if isinstance(old, Mapping) and isinstance(change, Mapping) else change
    return merged
