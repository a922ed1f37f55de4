"""Keys in Azure Key Vault and Managed HSM, by the client library.

Rules of this file:
1. There is one attempt, because the lane has budget and circuit breaker: the library's own retries are off.
2. Half of the timeout is for connecting, and half for each part of the answer.
3. A key is configured with its version, so that a new version of the same name does not begin to sign unnoticed.
4. Credentials come from the environment (DefaultAzureCredential): a workload or managed identity, as for every program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import Hash

from authz.signing.checked import CheckedSigner
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey, hash_of
from authz.telemetry.redaction import printable

_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
    "SECP256K1": ec.SECP256K1(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureKey:
    """How a key is reached: the URL of its version. *timeout* is in seconds."""

    key: str
    algorithm: str | None = None
    kid: str | None = None
    timeout: float = 2.0


def open_azure_key(settings: AzureKey, *, credential: object = None, **transport: object) -> CheckedSigner:
    """Read the public key, and return the signer. Raises SigningUnavailable.

    *credential* is used instead of the environment's; *transport* are further options of the library.
    """
    try:
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - an optional package, slow to import
        from azure.keyvault.keys import KeyClient  # noqa: PLC0415 - as above
        from azure.keyvault.keys.crypto import CryptographyClient  # noqa: PLC0415 - as above
    except ImportError:
        text = 'kind azure_key_vault needs the extra azure: pip install ".[azure]"'
        raise SigningUnavailable(text, Failure.MISCONFIGURED) from None
    half = settings.timeout / 2.0
    options: dict[str, Any] = {"connection_timeout": half, "read_timeout": half, "retry_total": 0, **transport}
    parts = urlsplit(settings.key)
    _, _, name, version = parts.path.split("/")
    used_credential: Any = credential or DefaultAzureCredential()
    reader = KeyClient(f"{parts.scheme}://{parts.netloc}", used_credential, **options)
    try:
        key = _call(lambda: reader.get_key(name, version), settings.key)
    finally:
        reader.close()
    if "sign" not in (key.key_operations or ()):
        raise SigningUnavailable(f"{settings.key} is not for signing", Failure.KEY_UNUSABLE)
    public = PublicKey.of(_read_public(key.key, settings.key), settings.algorithm)
    client = CryptographyClient(key, used_credential, **options)
    return CheckedSigner(_Key(client, settings.key, public.algorithm), public, kid=settings.kid)


class _Key:
    """One version of a key."""

    def __init__(self, client: Any, key: str, algorithm: str) -> None:  # noqa: ANN401 - as the library has it
        self._client: Final = client
        self._key: Final = key
        self._algorithm: Final = algorithm

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*; for ECDSA the service returns r || s. Raises SigningUnavailable."""
        from azure.keyvault.keys.crypto import SignatureAlgorithm  # noqa: PLC0415 - as above

        hasher = Hash(hash_of(self._algorithm))
        hasher.update(message)
        digest = hasher.finalize()
        algorithm = SignatureAlgorithm(self._algorithm)
        answer = _call(lambda: self._client.sign(algorithm, digest), self._key)
        signature: bytes = answer.signature
        return signature

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _call(ask: Callable[[], Any], key: str) -> Any:  # noqa: ANN401 - as the library has it
    """Return the answer of the service. Raises SigningUnavailable."""
    from azure.core.exceptions import AzureError  # noqa: PLC0415 - as above

    try:
        return ask()
    except AzureError as error:
        raise SigningUnavailable(f"{key}: {printable(str(error.message))}", _classify(error)) from None
    except Exception as error:  # for example an answer that the library cannot read
        raise SigningUnavailable(f"{key}: {type(error).__name__}", Failure.FAILED) from error


def _classify(error: Exception) -> Failure:
    from azure.core import exceptions as errors  # noqa: PLC0415 - as above

    match error:
        case errors.ServiceRequestTimeoutError() | errors.ServiceResponseTimeoutError():
            return Failure.TIMEOUT
        case errors.ServiceRequestError() | errors.ServiceResponseError():
            return Failure.UNREACHABLE
        case errors.ClientAuthenticationError():
            return Failure.UNAUTHORIZED
        case errors.HttpResponseError(status_code=429):
            return Failure.THROTTLED
        case errors.HttpResponseError(status_code=403):
            return Failure.UNAUTHORIZED
        case errors.HttpResponseError(status_code=400 | 404 | 409):
            return Failure.KEY_UNUSABLE
        case _:
            return Failure.FAILED


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _read_public(jwk: Any, key: str) -> object:  # noqa: ANN401 - as the library has it
    """Return the public key of a JWK whose members are octets. Raises SigningUnavailable."""
    try:
        if jwk.kty in {"RSA", "RSA-HSM"}:
            return rsa.RSAPublicNumbers(_number(jwk.e), _number(jwk.n)).public_key()
        if jwk.kty in {"EC", "EC-HSM"} and jwk.crv in _CURVES:
            return ec.EllipticCurvePublicNumbers(_number(jwk.x), _number(jwk.y), _CURVES[jwk.crv]).public_key()
    except (TypeError, ValueError):
        raise SigningUnavailable(f"{key}: its public key cannot be read", Failure.KEY_UNUSABLE) from None
    raise SigningUnavailable(f"{key} is of a kind that signs no JWTs", Failure.KEY_UNUSABLE)
