"""Keys in Google Cloud KMS, by its client library.

Rules of this file:
1. There is one attempt within the timeout, because the lane has budget and circuit breaker: the library's retries are
   off.
2. The algorithm is the one of the key version, which never changes.
3. Credentials come from the environment (application default credentials), as for every program of Google's cloud.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import Hash
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from authz.signing.checked import CheckedSigner
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey, ecdsa_from_der, hash_of
from authz.telemetry.redaction import printable

_RSA: Final = re.compile(r"RSA_SIGN_(?P<kind>PSS|PKCS1)_\d+_SHA(?P<bits>256|512)")
_OTHER_ALGORITHMS: Final = {
    "EC_SIGN_P256_SHA256": "ES256",
    "EC_SIGN_P384_SHA384": "ES384",
    "EC_SIGN_SECP256K1_SHA256": "ES256K",
    "EC_SIGN_ED25519": "EdDSA",
}
_EDWARDS: Final = ("EdDSA", "Ed25519")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleKey:
    """How a key is reached: the resource name of its version. *timeout* is in seconds."""

    key: str
    endpoint: str | None = None
    algorithm: str | None = None
    kid: str | None = None
    timeout: float = 2.0


def open_google_key(settings: GoogleKey, *, connect: Callable[[GoogleKey], Any] | None = None) -> CheckedSigner:
    """Read the public key, and return the signer. *connect* makes another client. Raises SigningUnavailable."""
    client = (connect or _make_client)(settings)
    key = _Key(client, settings)
    try:
        request, timeout = {"name": settings.key}, settings.timeout
        answer = key.call(lambda: client.get_public_key(request=request, retry=None, timeout=timeout))
        algorithm = _choose_algorithm(answer.algorithm.name, settings)
        try:
            loaded = load_pem_public_key(answer.pem.encode())
        except Exception as error:  # the library has many
            text = f"{settings.key}: its public key cannot be read"
            raise SigningUnavailable(text, Failure.KEY_UNUSABLE) from error
        public = PublicKey.of(loaded, algorithm)
    except BaseException:
        key.close()
        raise
    key.algorithm = algorithm
    return CheckedSigner(key, public, kid=settings.kid)


class _Key:
    """One version of a key."""

    def __init__(self, client: Any, settings: GoogleKey) -> None:  # noqa: ANN401 - the library has loose types
        self._client: Final = client
        self._settings: Final = settings
        self.algorithm = ""

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*. Raises SigningUnavailable."""
        request: dict[str, Any] = {"name": self._settings.key}
        if self.algorithm in _EDWARDS:
            request["data"] = message
        else:
            kind = hash_of(self.algorithm)
            hasher = Hash(kind)
            hasher.update(message)
            request["digest"] = {kind.name: hasher.finalize()}
        ask = self._client.asymmetric_sign
        answer = self.call(lambda: ask(request=request, retry=None, timeout=self._settings.timeout))
        signature: bytes = answer.signature
        return ecdsa_from_der(signature, self.algorithm) if self.algorithm.startswith("ES") else signature

    def call(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - the library has loose types
        """Return the answer of the service. Raises SigningUnavailable."""
        from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - an optional package
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - as above

        try:
            return ask()
        except (GoogleAPIError, GoogleAuthError) as error:
            message_text = printable(str(getattr(error, "message", error)))
            raise SigningUnavailable(f"{self._settings.key}: {message_text}", _classify(error)) from None
        except Exception as error:  # for example a message that the library cannot read
            raise SigningUnavailable(f"{self._settings.key}: {type(error).__name__}", Failure.FAILED) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.transport.close()


def _make_client(settings: GoogleKey) -> Any:  # noqa: ANN401 - the library has loose types
    try:
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - as above
        from google.cloud.kms import KeyManagementServiceClient  # noqa: PLC0415 - as above, and slow to import
    except ImportError:
        text = 'kind google_kms needs the extra google: pip install ".[google]"'
        raise SigningUnavailable(text, Failure.MISCONFIGURED) from None
    try:
        options = {} if settings.endpoint is None else {"api_endpoint": settings.endpoint}
        return KeyManagementServiceClient(client_options=options)
    except GoogleAuthError as error:
        raise SigningUnavailable(f"{settings.key}: {printable(str(error))}", Failure.UNAUTHORIZED) from None


def _choose_algorithm(version_algorithm: str, settings: GoogleKey) -> str:
    """Return the algorithm of a key version. Raises SigningUnavailable."""
    rsa = _RSA.fullmatch(version_algorithm)
    fixed = _OTHER_ALGORITHMS.get(version_algorithm)
    if rsa is not None:
        fixed = f"{'PS' if rsa['kind'] == 'PSS' else 'RS'}{rsa['bits']}"
    if fixed is None:
        text = f"{settings.key} is for {version_algorithm}, which signs no JWTs"
        raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
    chosen = settings.algorithm or fixed
    if chosen != fixed and not {chosen, fixed} <= set(_EDWARDS):
        raise SigningUnavailable(f"{settings.key} signs by {fixed}, and not by {chosen}", Failure.KEY_UNUSABLE)
    return chosen


def _classify(error: Exception) -> Failure:
    from google.api_core import exceptions as errors  # noqa: PLC0415 - as above
    from google.auth import exceptions as auth  # noqa: PLC0415 - as above

    match error:
        case errors.DeadlineExceeded() | errors.GatewayTimeout() | errors.RetryError():
            return Failure.TIMEOUT
        case errors.TooManyRequests():
            return Failure.THROTTLED
        case errors.Forbidden() | errors.Unauthorized():
            return Failure.UNAUTHORIZED
        case errors.NotFound() | errors.BadRequest():  # a disabled version is a failed precondition
            return Failure.KEY_UNUSABLE
        case errors.ServiceUnavailable() | auth.TransportError():
            return Failure.UNREACHABLE
        case auth.GoogleAuthError():
            return Failure.UNAUTHORIZED
        case _:
            return Failure.FAILED
