"""Key services of clouds on loopback, with the shapes of their APIs as documented, that can misbehave."""

from __future__ import annotations

import json
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authz.demo.loopback import LoopbackServer, RawResponse, Request, Responder, Response
from tests.fakes.waiting import HANG_SECONDS

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey | mldsa.MLDSA65PrivateKey
HASHES: Final = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
ARN: Final = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_ECDSA: Final = {"secp256r1": "256", "secp384r1": "384", "secp521r1": "512", "secp256k1": "256"}


def sign_digest(key: PrivateKey, digest: bytes, named: str) -> bytes:
    """Sign a digest by RSA or ECDSA, in DER for the latter; *named* ends with the bits of the hash."""
    hashed = HASHES[named[-3:]]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(digest, ec.ECDSA(Prehashed(hashed)))
    assert isinstance(key, rsa.RSAPrivateKey)
    filling: padding.AsymmetricPadding = padding.PKCS1v15()
    if "PSS" in named:
        filling = padding.PSS(mgf=padding.MGF1(hashed), salt_length=hashed.digest_size)
    return key.sign(digest, filling, Prehashed(hashed))


class Gate:
    """Lets requests through, or holds them until it is opened; *held* says that one has come."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.held = threading.Event()

    def pass_through(self) -> None:
        """Wait while the gate is closed."""
        if not self._open.is_set():
            self.held.set()
            self._open.wait(HANG_SECONDS)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Hold what comes in this block."""
        self.held.clear()
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()


class FakeAws:
    """AWS KMS with one key (API reference 2014-11-01: GetPublicKey, Sign). *fault* replaces its answers."""

    def __init__(self, key: PrivateKey, *, tls: ssl.SSLContext | None = None) -> None:
        self.key = key
        self.fault: Responder | None = None
        self.gate: Final = Gate()
        self.asked: list[str] = []
        self.usage = "SIGN_VERIFY"
        self._server = LoopbackServer(self._answer, tls=tls)
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.stop()

    def stop(self) -> None:
        """Be down."""
        self._server.stop()

    def _answer(self, request: Request) -> Response | RawResponse:
        headers = {name.lower(): value for name, value in request.headers}
        operation = headers["x-amz-target"].removeprefix("TrentService.")
        self.asked.append(operation)
        self.gate.pass_through()
        if self.fault is not None:
            return self.fault(request)
        members = json.loads(request.body)
        if operation == "GetPublicKey":
            document = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return amz(
                {
                    "KeyId": ARN,
                    "PublicKey": b64encode(document).decode(),
                    "KeyUsage": self.usage,
                    "SigningAlgorithms": self._algorithms(),
                }
            )
        assert members["KeyId"] == ARN
        assert members["SigningAlgorithm"] in self._algorithms()
        signature = self._sign(b64decode(members["Message"]), members["MessageType"], members["SigningAlgorithm"])
        return amz({"KeyId": ARN, "Signature": b64encode(signature).decode(), **members})

    def _algorithms(self) -> list[str]:
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return [f"ECDSA_SHA_{_ECDSA[self.key.curve.name]}"]
            case rsa.RSAPrivateKey():
                return [f"RSASSA_{kind}_SHA_{bits}" for kind in ("PKCS1_V1_5", "PSS") for bits in HASHES]
            case Ed25519PrivateKey():
                return ["ED25519_PH_SHA_512", "ED25519_SHA_512"]
            case _:
                return ["ML_DSA_SHAKE_256"]

    def _sign(self, message: bytes, kind: str, named: str) -> bytes:
        if kind == "RAW":
            assert len(message) <= 4096  # of Sign: Message
        if isinstance(self.key, Ed25519PrivateKey | mldsa.MLDSA65PrivateKey):
            assert kind == "RAW"
            return self.key.sign(message)
        if kind == "RAW":
            hashed = Hash(HASHES[named[-3:]])
            hashed.update(message)
            message = hashed.finalize()
        return sign_digest(self.key, message, named)


def amz(members: object, *, status: int = 200) -> Response:
    """Answer as the JSON protocol of AWS does."""
    return Response(status, (("Content-Type", "application/x-amz-json-1.1"),), json.dumps(members).encode())


def amz_error(code: str, *, status: int = 400, said: str = "no") -> Callable[[Request], Response]:
    """Fail as the JSON protocol of AWS does."""
    return lambda _: amz({"__type": code, "message": said}, status=status)


def reset(_request: Request) -> RawResponse:
    """Close the connection before an answer."""
    return RawResponse(())


def half(_request: Request) -> RawResponse:
    """Close the connection within an answer."""
    return RawResponse((b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",))
