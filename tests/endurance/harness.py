"""Real sidecars behind a real Envoy that is set up as deploy/envoy/envoy.yaml sets it up, each pinned to a core.

Envoy itself answers what passes, so that no upstream takes time from those that are watched: `x-rule` is the rule that
the sidecar named, `x-edge` and `x-subject` are identity headers as an upstream would have got them.
"""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.loopback import Header
from authz.demo.process import Process
from authz.demo.sidecar import Sidecar
from tests.chart.harness import merge, write
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.tools import ROOT
from tests.unit.envoy.serving import short_folder

TOLD: Final = ("x-rule", "x-edge", "x-subject", "www-authenticate")
CORES: Final = sorted(os.sched_getaffinity(0))
SIDECAR_CORE: Final = frozenset(CORES[:1])  # of every sidecar
ENVOY_CORE: Final = frozenset(CORES[1:2] or CORES)
CLIENT_CORES: Final = frozenset(CORES[2:] or CORES[1:] or CORES)  # with two cores Envoy's
_SNIPPET: Final = ROOT / "deploy/envoy/envoy.yaml"
_METADATA: Final = "envoy.filters.http.ext_authz"
_AS_IT_IS: Final[Mapping[str, Any]] = {}

_CONFIG: Final = """version: 1
server:
  listen: {listen}
admin:
  listen: {admin}
issuers:
{issuers}
rules:
  - name: {name}-open
    match: {{paths: ["/open/**"]}}
    allow: {open}
  - name: {name}
    match: {{paths: ["/items/**"]}}
identity:
  headers:
    x-subject: sub
    x-edge: {{value: {name}}}
responses:
  realm: {name}
  expose_reason: true
"""
_ISSUER: Final = """  a:
    issuer: {issuer}
    audiences: [{audience}]
    algorithms: [ES256, RS256]
    fetch: {{{fetch}}}
    insecure: {{http: true}}
"""


def write_config(
    idp: FakeIdp, *, name: str = "calm", audience: str = "api", open_to: str = "public", fetch: str = ""
) -> str:
    """Write a configuration whose every answer has its *name*; the places for addresses stay open."""
    issuers = _ISSUER.format(issuer=idp.issuer, audience=audience, fetch=fetch)
    return _CONFIG.format(listen="{listen}", admin="{admin}", issuers=issuers, name=name, open=open_to)


@dataclass(frozen=True, slots=True)
class Use:
    """What a process takes: resident memory in KiB, open descriptors, threads, and CPU seconds so far."""

    rss_kib: int
    descriptors: int
    threads: int
    cpu_seconds: float


class Replica:
    """One sidecar, whose configuration is mounted as the kubelet mounts a ConfigMap."""

    def __init__(self, folder: Path, config: str, *, tcp: bool = False) -> None:
        folder.mkdir()
        admin = free_address()
        self.endpoint: Final = free_address() if tcp else f"unix:{folder}/authz.sock"
        self._folder: Final = folder
        self._addresses: Final = {"listen": self.endpoint, "admin": admin}
        self.mount(config)
        self._sidecar: Final = Sidecar(self._fill(config), admin=admin, folder=folder)

    @property
    def process(self) -> Process:
        return self._sidecar.process

    @property
    def pid(self) -> int:
        child = self.process._child
        assert child is not None
        return child.pid

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with on(SIDECAR_CORE):
            self._sidecar.start()

    def stop(self) -> None:
        """End it in order."""
        self.process.stop()

    def mount(self, config: str) -> None:
        """Turn the folder of the configuration to a new version."""
        write({"data": {"authz.yaml": self._fill(config)}}, self._folder)

    def reload(self) -> None:
        """Ask for a reload."""
        self.signal(signal.SIGHUP)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def metric(self, name: str, **labels: str) -> float:
        """Sum a metric over all series that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        total = 0.0
        for line in send(f"{self._sidecar.admin_url}/metrics").body.decode().splitlines():
            if re.match(rf"{name}[ {{]", line) and all(label in line for label in wanted):
                total += float(line.rpartition(" ")[2])
        return total

    def use(self) -> Use:
        """Look at the process."""
        return use_of(self.pid)

    def _fill(self, config: str) -> str:
        for name, address in self._addresses.items():
            config = config.replace(f"{{{name}}}", address)
        return config


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs."""

    idp: FakeIdp
    replicas: Sequence[Replica]
    envoy: Envoy

    @property
    def sidecar(self) -> Replica:
        """The only sidecar."""
        (replica,) = self.replicas
        return replica

    def ask(self, path: str = "/items/1", token: str | None = None) -> Answer:
        """Send one request to Envoy."""
        headers: list[Header] = [] if token is None else [("Authorization", f"Bearer {token}")]
        return send(f"{self.envoy.url}{path}", headers=headers)

    def stats(self, pattern: str) -> dict[str, int]:
        """Read the numbers of Envoy that *pattern* matches."""
        lines = send(f"{self.envoy.admin_url}/stats?usedonly&filter={pattern}").body.decode().splitlines()
        pairs = (line.partition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}  # a histogram is none

    def healthy(self) -> int:
        """How many sidecars Envoy sends requests to."""
        return self.stats("^cluster.authz.membership_healthy$").get("cluster.authz.membership_healthy", 0)


@contextmanager
def set_stage(
    idp: FakeIdp,
    config: str,
    *,
    replicas: int = 1,
    tcp: bool = False,
    cluster: Mapping[str, Any] = _AS_IT_IS,
    patient: bool = False,
) -> Iterator[Stage]:
    """Start sidecars with *config* and an Envoy before them; *cluster* has changes to what the snippet says of it.

    A *patient* Envoy waits for a decision and for a connection however long they take: no figure, but a proof.
    """
    with ExitStack() as parts:
        folder = parts.enter_context(short_folder())
        started = [Replica(folder / f"replica-{number}", config, tcp=tcp) for number in range(replicas)]
        for replica in started:
            parts.callback(replica.stop)
            replica.start()
        envoy = Envoy(Proxy(upstream="127.0.0.1:1", sidecars=()), folder)
        bootstrap = write_bootstrap([replica.endpoint for replica in started], cluster, patient=patient)
        (folder / "envoy.json").write_text(json.dumps(bootstrap))
        parts.callback(envoy.stop)
        with on(ENVOY_CORE):
            envoy.start()
        stage = Stage(idp, started, envoy)
        wait_until(lambda: stage.healthy() == replicas)
        yield stage


def write_bootstrap(endpoints: Sequence[str], changes: Mapping[str, Any], *, patient: bool) -> dict[str, Any]:
    """Take the filter that asks and the cluster that is asked from the snippet; write the least around them."""
    snippet = yaml.safe_load(_SNIPPET.read_text(encoding="utf-8"))["static_resources"]
    (manager,) = snippet["listeners"][0]["filter_chains"][0]["filters"]
    asks = next(each for each in manager["typed_config"]["http_filters"] if each["name"] == _METADATA)
    asks = copy.deepcopy(asks)
    # The headers that the snippet's configuration may set are others than ours.
    asks["typed_config"]["decoder_header_mutation_rules"]["allow_expression"] = {"regex": "^x[-_](?:subject|edge)$"}
    cluster = next(each for each in snippet["clusters"] if each["name"] == "authz")
    cluster["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": _address(endpoint)}} for endpoint in endpoints]}
    ]
    cluster = merge(cluster, changes)
    if patient:
        asks["typed_config"]["grpc_service"]["timeout"] = cluster["connect_timeout"] = f"{HANG_SECONDS:g}s"
    listener = {
        "name": "front",
        "address": _address("127.0.0.1:0"),
        "filter_chains": [{"filters": [_manager(asks)]}],
    }
    return {
        "admin": {"address": _address("127.0.0.1:0")},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _manager(asks: dict[str, Any]) -> dict[str, Any]:
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    told = {
        "x-rule": f"%DYNAMIC_METADATA({_METADATA}:rule)%",
        "x-edge": "%REQ(X-EDGE)%",
        "x-subject": "%REQ(X-SUBJECT)%",
    }
    route = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "passed\n"}},
        "response_headers_to_add": [{"header": {"key": key, "value": value}} for key, value in told.items()],
    }
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
            "HttpConnectionManager",
            "stat_prefix": "front",
            "use_remote_address": True,
            "request_headers_timeout": "10s",
            "http_filters": [asks, {"name": "envoy.filters.http.router", "typed_config": router}],
            "route_config": {"virtual_hosts": [{"name": "front", "domains": ["*"], "routes": [route]}]},
        },
    }


def _address(address: str) -> dict[str, Any]:
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


@contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """Pin what this thread starts meanwhile: a process inherits the cores of the thread that makes it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def use_of(pid: int) -> Use:
    """Read what a process takes from /proc."""
    place = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    ticks = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
    return Use(
        rss_kib=int(status["VmRSS"].split()[0]),
        descriptors=len(list((place / "fd").iterdir())),
        threads=int(status["Threads"]),
        cpu_seconds=sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
    )


def await_answer(stage: Stage, token: str, edge: str, *, seconds: float = HANG_SECONDS) -> float:
    """Wait until Envoy's upstream would see *edge* as the identity header; return when (monotonic)."""
    wait_until(lambda: stage.ask(token=token).header("x-edge") == edge, seconds=seconds)
    return time.monotonic()
