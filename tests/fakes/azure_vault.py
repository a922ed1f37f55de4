"""Azure Key Vault on loopback: the requests that signing needs, as the REST API 7.x documents them, over HTTPS."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import trustme
from azure.core.credentials import AccessToken
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from authz.demo.loopback import LoopbackServer, RawResponse, Request, Responder, Response, json_response
from tests.fakes.kms import Gate, PrivateKey, sign_digest
from tests.fakes.tls import server_context

VERSION: Final = "0123456789abcdef0123456789abcdef"
TOKEN: Final = "azure-geheim-token"
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp256k1": "P-256K"}


class Credential:
    """What the identity library would get from the platform."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # noqa: ANN401 - as the library calls it
        return AccessToken(TOKEN, int(time.time()) + 3600)

    def close(self) -> None:
        """Hold nothing."""


class FakeAzure:
    """The service with one key. *fault* replaces its answers to requests with a token."""

    def __init__(self, key: PrivateKey, folder: Path) -> None:
        self.key = key
        self.operations = ["sign", "verify"]
        self.fault: Responder | None = None
        self.gate: Final = Gate()
        self.asked: list[str] = []
        authority = trustme.CA()
        self.ca_file: Final = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self._server = LoopbackServer(self._answer, tls=server_context(authority))
        self.url: Final = f"{self._server.url}/keys/signing/{VERSION}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.stop()

    def stop(self) -> None:
        """Be down."""
        self._server.stop()

    def options(self) -> dict[str, object]:
        """What the client needs to find this vault here: its authority, and no domain of Azure's."""
        return {"credential": Credential(), "connection_verify": self.ca_file, "verify_challenge_resource": False}

    def _answer(self, request: Request) -> Response | RawResponse:
        headers = {name.lower(): value for name, value in request.headers}
        if headers.get("authorization") != f"Bearer {TOKEN}":
            challenge = 'Bearer authorization="https://login.test/tenant", resource="https://vault.azure.net"'
            return Response(401, (("WWW-Authenticate", challenge),), b"")
        self.asked.append(f"{request.method} {request.path.rpartition('/')[2]}")
        self.gate.pass_through()
        if self.fault is not None:
            return self.fault(request)
        if request.path.removesuffix("/sign") != f"/keys/signing/{VERSION}":
            return azure_error("KeyNotFound", 404)(request)
        if request.method == "GET":
            return json_response({"key": self._jwk(), "attributes": {"enabled": True}})
        members = json.loads(request.body)
        digest = urlsafe_b64decode(members["value"] + "==")
        return json_response({"kid": self.url, "value": _encode(self._sign(digest, members["alg"]))})

    def _sign(self, digest: bytes, alg: str) -> bytes:
        signature = sign_digest(self.key, digest, f"{'PSS' if alg.startswith('PS') else ''}{alg[2:5]}")
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            size = (self.key.curve.key_size + 7) // 8
            return b"".join(part.to_bytes(size, "big") for part in decode_dss_signature(signature))
        return signature

    def _jwk(self) -> dict[str, object]:
        shared = {"kid": self.url, "key_ops": self.operations}
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            numbers, size = self.key.public_key().public_numbers(), (self.key.curve.key_size + 7) // 8
            x, y = (_encode(part.to_bytes(size, "big")) for part in (numbers.x, numbers.y))
            return {**shared, "kty": "EC-HSM", "crv": _CURVES[self.key.curve.name], "x": x, "y": y}
        assert isinstance(self.key, rsa.RSAPrivateKey)
        public = self.key.public_key().public_numbers()
        return {**shared, "kty": "RSA", "n": _encode(public.n.to_bytes(256, "big")), "e": "AQAB"}


def azure_error(code: str, status: int) -> Responder:
    """Fail as the API does."""
    return lambda _: json_response({"error": {"code": code, "message": f"{code}: no"}}, status=status)


def _encode(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()
