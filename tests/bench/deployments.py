"""Deployments that run: an Envoy and the server that decides for it, each on the cores that are meant for it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from authz.cli.serve import READ_WHILE_POLLING
from authz.config.load import parse
from authz.config.problems import ConfigError
from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.loopback import json_response
from authz.demo.process import PartFailed, Process
from authz.demo.sidecar import Sidecar
from authz.demo.signing import SigningKey
from tests.bench.accounting import family
from tests.bench.envoys import make_envoy
from tests.bench.machine import Place, on_cores
from tests.bench.peers.servers import PEERS, prove, serving
from tests.bench.setups import HOW_TO_MAKE, Form, Kind, Setup
from tests.bench.tokens import AUDIENCE, ISSUER, write_claims
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.tools import TOOLS, find

# Python looks there before it looks at its own packages, and not in the current folder.
_OTHER_TREE: Final = ("env", "PYTHONSAFEPATH=1")
_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
NOWHERE: Final = "http://127.0.0.1:9/introspect"
_INTROSPECT: Final = "/introspect"
_CLOSED: Final = "a closed port (`make .tools/rotel` brings a collector)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One arrangement that runs. *deciders* are the processes that decide: Envoy itself where it does so."""

    setup: Setup
    place: Place
    envoy: Envoy
    deciders: tuple[int, ...]
    sidecar: Sidecar | None = None

    @property
    def envoy_pid(self) -> int:
        return pid_of(self.envoy.process)

    @property
    def judging_cores(self) -> frozenset[int]:
        return self.place.envoy if self.deciders == (self.envoy_pid,) else self.place.server

    def samples(self) -> dict[str, float]:
        """Ask the sidecar for its counters, of all of its workers: `name:word` to number."""
        return {} if self.sidecar is None else read_samples(send(f"{self.sidecar.admin_url}/metrics").body.decode())


def read_samples(text: str) -> dict[str, float]:
    """Add up the metrics that tell what became of signatures, decisions and spans."""
    sums: dict[str, float] = {}
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            word = sample.labels.get("result") or sample.labels.get("decision")
            name = f"{sample.name}:{word}" if word else sample.name
            sums[name] = sums.get(name, 0.0) + sample.value
    return sums


def pid_of(process: Process) -> int:
    """The process id of a process that was started."""
    assert process._child is not None
    return process._child.pid


class Deployments:
    """Builds stands, each in a folder of its own; *keys* sign the tokens."""

    def __init__(self, folder: Path, keys: Mapping[str, SigningKey]) -> None:
        self._folder = folder
        self._keys = keys

    def why_not(self, setup: Setup) -> str:
        """Say why the libraries or the sidecar cannot do what this setup asks for; nothing where they can."""
        if setup.algorithm not in self._keys:
            return f"the installed cryptography cannot do {setup.algorithm}"
        if setup.kind in PEERS:
            return PEERS[setup.kind].why_not()
        if setup.form in HOW_TO_MAKE and not (TOOLS / setup.form / "authz").is_dir():
            return f"`{HOW_TO_MAKE[setup.form]}` makes it"
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            text = self._write(setup, Path(folder), listen="unix:/run/authz.sock", admin="127.0.0.1:9192")
            try:
                parse(text, file="authz.yaml")
            except ConfigError as error:
                return f"this version refuses it: {error.problems[0]}"
        return ""

    @contextmanager
    def open(self, setup: Setup, place: Place) -> Iterator[Deployment]:
        """Start a stand, and stop it whatever happens. Raises PartFailed."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name, ExitStack() as parts:
            folder = Path(name)
            sidecar: Sidecar | None = None
            addresses: tuple[str, ...] = ()
            server: Process | None = None
            if setup.kind is Kind.SIDECAR:
                asked = parts.enter_context(answering()) if setup.opaque else NOWHERE
                sidecar, addresses = self.make_sidecar(setup, folder, asked=asked)
                server = sidecar.process
                parts.callback(sidecar.stop)
                with on_cores(place.server):
                    sidecar.start()
                compiled = 'implementation="compiled"' in send(f"{sidecar.admin_url}/metrics").body.decode()
                if compiled is not (setup.form is Form.COMPILED):
                    raise PartFailed("the sidecar runs in the other form", where=str(folder), fix="run make compiled")
            elif setup.kind is Kind.BARE:
                addresses = (f"unix:{folder}/bare.sock",)
                server = start_bare(addresses[0], folder, place.server)
                parts.callback(server.stop)
            elif setup.kind in PEERS:
                address, server = parts.enter_context(serving(setup, folder, self._keys[setup.algorithm], place.server))
                addresses = (address,)
            jwks = json.dumps({"keys": [self._keys[setup.algorithm].public()]})
            envoy = make_envoy(setup.kind, folder, sidecars=addresses, jwks=jwks)
            parts.callback(envoy.stop)
            with on_cores(place.envoy):
                envoy.start()
            if setup.kind in PEERS:
                prove(envoy.url, self._keys[setup.algorithm], now=int(time.time()))
            judge = envoy.process if server is None else server
            yield Deployment(setup=setup, place=place, envoy=envoy, deciders=family(pid_of(judge)), sidecar=sidecar)

    def make_sidecar(self, setup: Setup, folder: Path, *, asked: str = NOWHERE) -> tuple[Sidecar, tuple[str, ...]]:
        """Prepare a sidecar, and name the addresses on which Envoy finds it. It asks about opaque tokens at *asked*."""
        admin = free_address()
        listen = free_address() if setup.tcp else f"unix:{folder}/authz.sock"
        config = self._write(setup, folder, listen=listen, admin=admin, asked=asked)
        sidecar = Sidecar(config, admin=admin, folder=folder)
        if setup.form in HOW_TO_MAKE:
            argv = [*_OTHER_TREE, f"PYTHONPATH={TOOLS / setup.form}", sys.executable]
            argv += ["-m", "authz", "serve", "--config", str(sidecar.config_file)]
            fix = f"read its log; {HOW_TO_MAKE[setup.form]}"
            sidecar.process = Process("the sidecar", argv, log=folder / "authz.log", fix=fix)
        if setup.workers == 1:
            return sidecar, (listen,)
        return sidecar, tuple(f"unix:{folder}/authz-{number}.sock" for number in range(setup.workers))

    def _write(self, setup: Setup, folder: Path, *, listen: str, admin: str, asked: str = NOWHERE) -> str:
        """Write a configuration, whose last issuer and last rule are the ones that are asked for, and the key files.

        A setting that is as by default is left out, for an earlier version may not know it.
        """
        jwks = json.dumps({"keys": [key.public() for key in self._keys.values()]})
        issuers: dict[str, dict[str, object]] = {}
        for number in reversed(range(setup.issuers)):
            file = folder / f"jwks-{number}.json"
            file.write_text(jwks, encoding="ascii")
            url = ISSUER if number == 0 else f"https://other-{number}.bench.test"
            issuers[f"idp-{number}"] = {
                "issuer": url,
                "audiences": [AUDIENCE],
                "algorithms": sorted(self._keys),
                "jwks_file": str(file),
            }
            if setup.proofs:
                issuers[f"idp-{number}"]["dpop"] = "allowed"
        if setup.opaque:
            (folder / "secret").write_text("secret", encoding="ascii")
            client = {"id": "bench", "secret_file": str(folder / "secret")}
            issuers["idp-0"] |= {
                "insecure": {"http": True},
                "introspection": {"url": asked, "client": client, "cache": "1h", "max_wait": "10s"},
            }
        document: dict[str, object] = {
            "version": 1,
            "server": {"listen": listen, "workers": setup.workers, "drain": "200ms"},
            "admin": {"listen": admin} | ({} if setup.console else {"console": {"enabled": False}}),
            "issuers": issuers,
            "rules": [
                *({"match": {"paths": [f"/other-{n}/{{id}}/**"]}} for n in range(setup.rules - 1)),
                {"name": "orders", "match": {"paths": ["/orders/**"]}, "require": {"scopes": ["orders:read"]}},
            ],
            "identity": {"headers": {"x-auth-subject": "sub", "x-auth-scopes": "scope"}},
        }
        if setup.minted is not None:
            token = {"header": "txn-token", "issuer": "https://gateway.bench.test", "audience": ["orders"]}
            document["identity"] = {"headers": {"x-auth-subject": "sub", "x-auth-scopes": "scope"}, "token": token}
            document["signing"] = {"keys": {"main": {"kind": "memory", "algorithm": setup.minted}}}
        telemetry: dict[str, object] = {"decisions": "all"} if setup.logged else {}
        if setup.sampled is not None:
            telemetry["traces"] = {"exporter": "otlp", "sample_ratio": setup.sampled}
        if telemetry:
            document["telemetry"] = telemetry
        if setup.proofs:
            document["dpop"] = {"max_age": "1h", "max_proofs": 1_000_000}  # they are made before the row begins
        return json.dumps(document, indent=1)


@contextmanager
def answering() -> Iterator[str]:
    """Serve an issuer that calls every token active, and yield the URL at which it is asked."""
    with FakeIdp() as idp:
        said = {**write_claims(0, int(time.time())), "active": True, "token_type": "Bearer"}
        idp.answers[_INTROSPECT] = lambda _: json_response(said)
        yield f"{idp.url}{_INTROSPECT}"


def start_bare(address: str, folder: Path, cores: Collection[int]) -> Process:
    """Start the bare server, with what the sidecar sets for gRPC's core: it makes both faster."""
    path = Path(address.removeprefix("unix:"))
    told = [f"{name}={value}" for name, value in READ_WHILE_POLLING.items()]
    argv = ["env", *told, sys.executable, "-m", "tests.bench.bare", address]
    server = Process("the bare server", argv, log=folder / "bare.log", fix="read its log")
    with on_cores(cores):
        server.start()
    server.wait_until(path.exists)
    return server


@contextmanager
def collecting(folder: Path, cores: Collection[int]) -> Iterator[str]:
    """Start a collector, to which all sidecars will send their spans, and say what it is.

    Without the tool no one listens there.
    """
    address = free_address()
    os.environ[_ENDPOINT] = f"http://{address}"
    tool = find("rotel")
    if tool is None:
        yield _CLOSED
        return
    argv = [
        *(f"{tool}/rotel/rotel-agent", "start", "--exporter", "blackhole"),
        *("--otlp-grpc-endpoint", address, "--otlp-http-endpoint", free_address()),
        *("--log-file", str(folder / "rotel.log"), "--pid-file", str(folder / "rotel.pid")),
    ]
    collector = Process("the collector", argv, log=folder / "collector.log", fix="read its log")
    with on_cores(cores):
        collector.start()
    try:
        yield "rotel, beside the load generator"
    finally:
        collector.kill()
