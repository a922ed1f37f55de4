"""A real kube-apiserver and its etcd on loopback, without a container, a node or a controller."""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import trustme
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authz.demo.client import send
from authz.demo.process import Process
from tests.chart.helm import Document
from tests.fakes.ports import free_address
from tests.tools import TOOLS, path

ISSUER: Final = "https://kubernetes.default.svc"
_NAMES: Final = ("kubernetes.default.svc", "localhost", "127.0.0.1")
# Behind its Service a cluster has another address than the one that discovery names; nothing listens there.
_ADVERTISED: Final = "10.11.12.13"
_WARNING: Final = re.compile(r"^Warning: | warnings\.go:", re.MULTILINE)


class Refused(Exception):
    """Raised if kubectl or Helm ended with an error: what it said."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server that is ready: where it listens, and a folder with its kubeconfig and its authority."""

    folder: Path
    port: int
    ca: trustme.CA = field(repr=False)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run kubectl as an administrator; return what it printed. Raises Refused."""
        caches = ("--cache-dir", str(self.folder / "cache"))
        return self._run([path("helm") + "/kubectl", *caches, *map(str, arguments)], stdin)

    def helm(self, helm: str, *arguments: str | Path) -> str:
        """Run one Helm as an administrator; return what it printed. Raises Refused."""
        return self._run([str(TOOLS / "helm" / helm), *map(str, arguments)], None)

    def _run(self, argv: list[str], stdin: str | None) -> str:
        argv[1:1] = ["--kubeconfig", str(self.kubeconfig)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, input=stdin)
        if done.returncode:
            raise Refused(done.stderr + done.stdout)
        if _WARNING.search(
            done.stderr
        ):  # of what `restricted` will not let run, or what is deprecated, or has no effect
            raise Refused(done.stderr)
        return done.stdout

    def get(self, kind: str, name: str, namespace: str) -> Document:
        """Read one object."""
        found: Document = json.loads(self.kubectl("get", kind, name, "--namespace", namespace, "--output", "json"))
        return found

    def apply(self, *documents: Document, namespace: str | None = None) -> None:
        """Apply objects on the server's side, in which no field may be unknown and none twice. Raises Refused."""
        there = () if namespace is None else ("--namespace", namespace)
        flags = ("--server-side", "--validate=strict", "--force-conflicts", *there, "--filename", "-")
        self.kubectl("apply", *flags, stdin=yaml.safe_dump_all(documents))

    def create(self, document: Document, *, namespace: str | None = None) -> Document:
        """Create one object, or ask one question; return it as the server has it."""
        there = () if namespace is None else ("--namespace", namespace)
        flags = ("--validate=strict", "--output", "json", *there, "--filename", "-")
        made: Document = json.loads(self.kubectl("create", *flags, stdin=yaml.safe_dump(document)))
        return made

    def make_namespace(self, name: str, **labels: str) -> str:
        """Create a namespace in which only pods of the `restricted` standard may run."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")} | labels
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        # What its controllers would put there.
        authority = {"ca.crt": (self.folder / "ca.crt").read_text(encoding="ascii")}
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}, "data": authority},
            namespace=name,
        )
        return name

    def token(self, namespace: str, account: str, *, audience: str | None = None, pod: Document | None = None) -> str:
        """Request a token of a service account as the kubelet does: for an audience, bound to a pod, for an hour."""
        flags = ["--namespace", namespace, "--duration", "1h"]
        if audience is not None:
            flags += ["--audience", audience]
        if pod is not None:
            flags += ["--bound-object-kind", "Pod", "--bound-object-name", pod["metadata"]["name"]]
            flags += ["--bound-object-uid", pod["metadata"]["uid"]]
        return self.kubectl("create", "token", account, *flags).strip()


@contextmanager
def running_etcd(folder: Path) -> Iterator[str]:
    """Start etcd, which forgets nothing until it ends; yield its URL."""
    client, peer = f"http://{free_address()}", f"http://{free_address()}"
    argv = [
        *(path("cluster") + "/etcd", "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
    ]
    process = Process("etcd", argv, log=folder / "etcd.log", fix="read its log")
    process.start()
    try:
        process.wait_until(lambda: _is_well(f"{client}/health", None))
        yield client
    finally:
        process.stop()


def make_keys(folder: Path) -> dict[str, Path]:
    """Write private keys for tokens of service accounts, of both kinds that clusters use."""
    made: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {
        "RS256": rsa.generate_private_key(65_537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
    }
    files = {}
    for algorithm, key in made.items():
        files[algorithm] = folder / f"accounts-{algorithm}.pem"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        files[algorithm].write_bytes(pem)
    return files


@contextmanager
def running_api_server(
    folder: Path, etcd: str, keys: Sequence[Path], *, ca: trustme.CA, issuer: str = ISSUER
) -> Iterator[Cluster]:
    """Start an API server, whose first key signs tokens of service accounts; all others verify them."""
    folder.mkdir(parents=True, exist_ok=True)
    port = int(free_address().rpartition(":")[2])
    cluster = Cluster(folder, port, ca)
    ca.cert_pem.write_to_path(str(folder / "ca.crt"))
    ca.issue_cert(*_NAMES).private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    admin = ca.issue_cert("admin", common_name="admin", organization_name="system:masters")
    admin.private_key_and_cert_chain_pem.write_to_path(str(folder / "admin.pem"))
    _write_kubeconfig(cluster, admin)
    argv = [
        *(path("cluster") + "/apiserver", f"--etcd-servers={etcd}", f"--secure-port={port}"),
        *("--bind-address=127.0.0.1", f"--advertise-address={_ADVERTISED}", "--endpoint-reconciler-type=none"),
        *(f"--tls-cert-file={folder / 'server.pem'}", f"--tls-private-key-file={folder / 'server.pem'}"),
        *(f"--client-ca-file={folder / 'ca.crt'}", "--authorization-mode=RBAC"),
        *(f"--service-account-issuer={issuer}", f"--service-account-signing-key-file={keys[0]}"),
        *(f"--service-account-key-file={key}" for key in keys),
        "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",  # dual stack
    ]
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "admin.pem")
    process = Process("kube-apiserver", argv, log=folder / "apiserver.log", fix="read its log")
    process.start()
    try:
        process.wait_until(lambda: _is_well(f"https://127.0.0.1:{port}/readyz", context))
        yield cluster
    finally:
        process.stop()


def _write_kubeconfig(cluster: Cluster, admin: trustme.LeafCert) -> None:
    def base64_of(*blobs: trustme.Blob) -> str:
        return base64.b64encode(b"".join(blob.bytes() for blob in blobs)).decode()

    here: dict[str, Any] = {
        "server": f"https://127.0.0.1:{cluster.port}",
        "certificate-authority-data": base64_of(cluster.ca.cert_pem),
    }
    user = {
        "client-certificate-data": base64_of(*admin.cert_chain_pems),
        "client-key-data": base64_of(admin.private_key_pem),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": here}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
        "current-context": "here",
    }
    cluster.kubeconfig.write_text(yaml.safe_dump(config), encoding="ascii")
    cluster.kubeconfig.chmod(0o600)


def _is_well(url: str, tls: ssl.SSLContext | None) -> bool:
    try:
        return send(url, tls=tls).status == 200
    except (OSError, HTTPException):
        return False
