"""Google Cloud KMS on loopback: the methods that signing needs, with the messages of the real API, over real gRPC."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import grpc
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.cloud.kms import KeyManagementServiceClient
from google.cloud.kms_v1 import types
from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceGrpcTransport

from authz.signing.google_kms import GoogleKey
from tests.fakes.kms import Gate, PrivateKey, sign_digest

VERSION: Final = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
SERVICE: Final = "google.cloud.kms.v1.KeyManagementService"


class FakeGoogle:
    """The service with one key version, for the algorithm *named*. *fault* is the status of all answers."""

    def __init__(self, key: PrivateKey, named: str) -> None:
        self.key = key
        self.named = named
        self.fault: grpc.StatusCode | None = None
        self.gate: Final = Gate()
        self.asked: list[str] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        methods: dict[str, Any] = {
            "GetPublicKey": (self._get_public_key, types.GetPublicKeyRequest, types.PublicKey),
            "AsymmetricSign": (self._sign, types.AsymmetricSignRequest, types.AsymmetricSignResponse),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                answer, request_deserializer=asked.deserialize, response_serializer=answered.serialize
            )
            for name, (answer, asked, answered) in methods.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Be down."""
        self._server.stop(None).wait()

    def connect(self, _where: GoogleKey) -> KeyManagementServiceClient:
        """Make the real client, on a channel without TLS."""
        channel = grpc.insecure_channel(self.address)
        return KeyManagementServiceClient(transport=KeyManagementServiceGrpcTransport(channel=channel))

    def _get_public_key(self, request: Any, context: grpc.ServicerContext) -> types.PublicKey:  # noqa: ANN401 - proto-plus
        self._admit("GetPublicKey", request.name, context)
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        algorithm = getattr(types.CryptoKeyVersion.CryptoKeyVersionAlgorithm, self.named)
        return types.PublicKey(pem=pem, algorithm=algorithm, name=VERSION)

    def _sign(self, request: Any, context: grpc.ServicerContext) -> types.AsymmetricSignResponse:  # noqa: ANN401 - as above
        self._admit("AsymmetricSign", request.name, context)
        if isinstance(self.key, Ed25519PrivateKey):
            return types.AsymmetricSignResponse(signature=self.key.sign(request.data), name=VERSION)
        assert isinstance(self.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        digest = getattr(request.digest, f"sha{self.named[-3:]}")
        return types.AsymmetricSignResponse(signature=sign_digest(self.key, digest, self.named), name=VERSION)

    def _admit(self, method: str, name: str, context: grpc.ServicerContext) -> None:
        self.asked.append(method)
        self.gate.pass_through()
        if self.fault is not None:
            context.abort(self.fault, "no")
        if name != VERSION:
            context.abort(grpc.StatusCode.NOT_FOUND, f"{name} not found.")
