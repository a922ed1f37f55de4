"""OPA and OpenFGA as processes on loopback, made from source: policy decision points with their own surprises."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from authz.demo.client import send
from authz.demo.process import Process
from tests.fakes.ports import free_address
from tests.tools import path

POLICY: Final = """package app
import rego.v1
default allow := false
allow if input.action.name == "GET"
reasoned := {"decision": false, "context": {"reason_user": "call us"}}
undefined if false
conflict := 1 if input.subject
conflict := 2 if input.subject
"""
MODEL: Final = {
    "schema_version": "1.1",
    "type_definitions": [
        {"type": "user"},
        {
            "type": "doc",
            "relations": {"read": {"this": {}}, "write": {"this": {}}},
            "metadata": {
                "relations": {
                    "read": {"directly_related_user_types": [{"type": "user"}]},
                    "write": {"directly_related_user_types": [{"type": "user"}]},
                }
            },
        },
    ],
}


@contextmanager
def opa(folder: Path, *arguments: str) -> Iterator[str]:
    """Run OPA's server with POLICY, or with *arguments* instead; yield its URL."""
    (folder / "policy.rego").write_text(POLICY)
    address = free_address()
    what = arguments or (str(folder / "policy.rego"),)
    command = [f"{path('peers/opa')}/opa", "run", "--server", "--disable-telemetry", f"--addr={address}", *what]
    with _running("OPA", command, folder, f"http://{address}/health") as url:
        yield url.removesuffix("/health")


@contextmanager
def openfga(folder: Path) -> Iterator[str]:
    """Run OpenFGA, which forgets everything when it ends; yield its URL."""
    address = free_address()
    settings = (
        "--experimentals=authzen",
        f"--http-addr={address}",
        f"--grpc-addr={free_address()}",
        "--metrics-enabled=false",
        "--playground-enabled=false",
    )
    with _running(
        "OpenFGA", [f"{path('peers/openfga')}/openfga", "run", *settings], folder, f"http://{address}/healthz"
    ) as url:
        yield url.removesuffix("/healthz")


@contextmanager
def _running(name: str, command: list[str], folder: Path, health: str) -> Iterator[str]:
    process = Process(name, command, log=folder / f"{name}.log", fix="read its log")
    process.start()
    try:
        process.wait_until(lambda: _answers(health))
        yield health
    finally:
        process.stop()


def _answers(url: str) -> bool:
    try:
        return send(url).status == 200
    except OSError:
        return False


def post(url: str, document: object) -> dict[str, Any]:
    """Post JSON, and read the answer."""
    answer = send(
        url, method="POST", headers=[("Content-Type", "application/json")], body=json.dumps(document).encode()
    )
    assert 200 <= answer.status < 300, answer.body
    said: dict[str, Any] = answer.json()
    return said


def make_store(url: str, *tuples: Mapping[str, str]) -> str:
    """Make a store of OpenFGA with MODEL and these tuples; return its URL."""
    store = f"{url}/stores/{post(f'{url}/stores', {'name': 'test'})['id']}"
    post(f"{store}/authorization-models", MODEL)
    post(f"{store}/write", {"writes": {"tuple_keys": list(tuples)}})
    return store


def bundle() -> bytes:
    """Pack POLICY as OPA downloads it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (("app.rego", POLICY), (".manifest", '{"roots": ["app"]}')):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return packed.getvalue()
