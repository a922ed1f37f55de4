"""A sidecar with a recipe, as a process, which reaches the API server under the name that it has in a cluster."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc

from authz.demo.sidecar import Sidecar
from authz.envoy import ext_authz_pb2 as wire
from tests.cluster.apiserver import Cluster
from tests.fakes.ports import free_address
from tests.fakes.raw import RawServer, forward
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import ask
from tests.recipes.recipe import FOLDER
from tests.unit.envoy.asking import read, told, write_check
from tests.unit.envoy.serving import method

TOKENS: Final = "/var/run/secrets/tokens"
HOST: Final = "kubernetes.default.svc:443"


@dataclass(frozen=True, slots=True)
class Gate:
    """A sidecar that runs, and a channel to it."""

    sidecar: Sidecar
    channel: grpc.Channel
    proxied: list[bytes]
    """What the sidecar asked the way into the cluster for."""

    def check(self, what: str, token: str | None) -> wire.CheckResponse:
        """Make one Check; *what* is a method and a URL."""
        verb, _, url = what.partition(" ")
        parts = urlsplit(url)
        request = ask(token, method=verb, host=parts.netloc, path=parts.path)
        return read(method(self.channel)(write_check(request), timeout=HANG_SECONDS))

    def reason(self, what: str, token: str | None) -> str:
        """Make one Check; return its reason."""
        return str(told(self.check(what, token)))

    def identity(self, what: str, token: str) -> dict[str, str]:
        """Make one Check that is allowed; return the identity headers for the upstream."""
        answer = self.check(what, token)
        assert told(answer) == "authenticated", answer
        return {option.header.key: option.header.value for option in answer.ok_response.headers}


@contextmanager
def way_into(cluster: Cluster) -> Iterator[RawServer]:
    """A proxy on loopback that leads to the API server under the name of its Service."""
    with RawServer(forward(ports={HOST: cluster.port})) as proxy:
        yield proxy


@contextmanager
def guarded_by_recipe(cluster: Cluster, *, namespace: str, account: str, **changes: str) -> Iterator[Gate]:
    """Run a sidecar with the recipe, as pods of *account* would: with the authority and a token of their own.

    *changes* replace the lines of that key.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gate-")))
        proxy = stack.enter_context(way_into(cluster))
        text = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
        (folder / "ca.crt").write_bytes(cluster.ca.cert_pem.bytes())
        (folder / "issuer").write_text(cluster.token(namespace, account), encoding="ascii")
        for key, value in changes.items():
            text, found = re.subn(rf"^( +){key}: .*$", rf"\1{key}: {value}", text, flags=re.MULTILINE)
            assert found == 1, key
        text = text.replace(TOKENS, str(folder))
        text = text.replace("    fetch:", f"    fetch:\n      proxy: http://127.0.0.1:{proxy.port}", 1)
        admin, socket = free_address(), f"unix:{folder}/authz.sock"
        sidecar = Sidecar(
            f"{text}\nserver: {{listen: {socket!r}}}\nadmin: {{listen: {admin!r}}}\n", admin=admin, folder=folder
        )
        stack.callback(sidecar.stop)
        sidecar.start()
        channel = stack.enter_context(grpc.insecure_channel(socket))
        yield Gate(sidecar, channel, proxy.heard)
