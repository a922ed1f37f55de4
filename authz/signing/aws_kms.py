"""Keys in the Key Management Service of AWS, by the client library boto3.

Rules of this file:
1. There is one attempt, because the lane has budget and circuit breaker; only if a connection is closed before the
   response, as an idle one may be, the request is repeated once on a new one.
2. Half of the timeout is for connecting, and half for each part of the answer. Credentials come from the environment,
   as for every program of AWS; the library's own bounds are for fetching them.
3. The key is used by its ARN: an alias that is moved to another key has no effect until the key is opened again.
4. Up to 4096 octets are sent as they are, and hashed by the service; of a longer message the hash is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import Hash
from cryptography.hazmat.primitives.serialization import load_der_public_key

from authz.signing.checked import CheckedSigner
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey, ecdsa_from_der, hash_of
from authz.telemetry.redaction import printable

MAX_RAW_BYTES: Final = 4096  # of Sign: Message
_ARN: Final = re.compile(r"arn:[^:]+:kms:(?P<region>[^:]+):.*")
_HASHING: Final = {"RS": "RSASSA_PKCS1_V1_5_SHA_", "PS": "RSASSA_PSS_SHA_", "ES": "ECDSA_SHA_"}
_ALGORITHMS: Final = {"EdDSA": "ED25519_SHA_512", "Ed25519": "ED25519_SHA_512"}
_THROTTLED: Final = frozenset(
    {"LimitExceededException", "RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException"}
)
_UNAUTHORIZED: Final = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature"),
        *("InvalidClientTokenId", "InvalidSignatureException", "MissingAuthenticationToken", "NotAuthorized"),
        *("OptInRequired", "SignatureDoesNotMatch", "UnrecognizedClientException"),
    }
)
_KEY_UNUSABLE: Final = frozenset(
    {
        *("DisabledException", "InvalidArnException", "InvalidKeyUsageException", "KMSInvalidStateException"),
        *("KeyUnavailableException", "NotFoundException", "UnsupportedOperationException"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKey:
    """How a key is reached: its ARN, id or alias. *timeout* is in seconds."""

    key: str
    region: str | None = None
    endpoint: str | None = None
    algorithm: str | None = None
    kid: str | None = None
    timeout: float = 2.0
    max_connections: int = 10


def open_aws_key(settings: AwsKey) -> CheckedSigner:
    """Read the public key, and return the signer. Raises SigningUnavailable."""
    client = _make_client(settings)
    try:
        answer = _call(lambda: client.get_public_key(KeyId=settings.key), settings.key)
        if answer.get("KeyUsage") != "SIGN_VERIFY":
            raise SigningUnavailable(f"{settings.key} is not for signing", Failure.KEY_UNUSABLE)
        try:
            loaded = load_der_public_key(answer["PublicKey"])
        except Exception as error:  # the library has many
            text = f"{settings.key}: its public key cannot be read"
            raise SigningUnavailable(text, Failure.KEY_UNUSABLE) from error
        public = PublicKey.of(loaded, settings.algorithm)
        algorithm_name = _name_algorithm(public.algorithm)
        if algorithm_name not in answer.get("SigningAlgorithms", ()):
            raise SigningUnavailable(f"{settings.key} does not sign by {public.algorithm}", Failure.KEY_UNUSABLE)
    except BaseException:
        client.close()
        raise
    return CheckedSigner(_Key(client, answer["KeyId"], public.algorithm), public, kid=settings.kid)


class _Key:
    """One key, by its ARN or id."""

    def __init__(self, client: Any, key: str, algorithm: str) -> None:  # noqa: ANN401 - boto3 makes its classes
        self._client: Final = client
        self._key: Final = key
        self._algorithm: Final = algorithm

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*. Raises SigningUnavailable."""
        sent, kind = message, "RAW"
        if len(message) > MAX_RAW_BYTES:
            if self._algorithm[:2] not in _HASHING:
                text = f"{len(message)} octets to sign, and the service takes {MAX_RAW_BYTES} for {self._algorithm}"
                raise SigningUnavailable(text, Failure.REQUEST)
            hasher = Hash(hash_of(self._algorithm))
            hasher.update(message)
            sent, kind = hasher.finalize(), "DIGEST"
        algorithm_name = _name_algorithm(self._algorithm)
        ask = self._client.sign
        arguments = {"KeyId": self._key, "Message": sent, "MessageType": kind, "SigningAlgorithm": algorithm_name}
        answer = _call(lambda: ask(**arguments), self._key)
        signature: bytes = answer.get("Signature", b"")
        return ecdsa_from_der(signature, self._algorithm) if self._algorithm.startswith("ES") else signature

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _make_client(settings: AwsKey) -> Any:  # noqa: ANN401 - boto3 makes its classes
    try:
        import boto3  # noqa: PLC0415 - an optional package, which is slow to import
        from botocore.config import Config  # noqa: PLC0415 - as above
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - as above
    except ImportError:
        text = 'kind aws_kms needs the extra aws: pip install ".[aws]"'
        raise SigningUnavailable(text, Failure.MISCONFIGURED) from None
    arn = _ARN.fullmatch(settings.key)
    half = settings.timeout / 2.0
    config = Config(
        connect_timeout=half,
        read_timeout=half,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=settings.max_connections,
    )
    try:
        return boto3.session.Session().client(
            "kms",
            region_name=settings.region or (arn["region"] if arn else None),
            endpoint_url=settings.endpoint,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise SigningUnavailable(f"{settings.key}: {printable(str(error))}", Failure.MISCONFIGURED) from None


def _call(ask: Callable[[], dict[str, Any]], key: str) -> dict[str, Any]:
    """Return the answer of the service. Raises SigningUnavailable."""
    from botocore import exceptions as errors  # noqa: PLC0415 - as above

    try:
        try:
            return ask()
        except errors.ConnectionClosedError:
            return ask()
    except errors.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        message_text = printable(str(error.response.get("Error", {}).get("Message", "")))
        raise SigningUnavailable(f"{key}: {printable(code)}: {message_text}", _classify_code(code)) from None
    except (errors.BotoCoreError, errors.HTTPClientError) as error:
        raise SigningUnavailable(f"{key}: {printable(str(error))}", _classify(error)) from None
    except Exception as error:  # an answer in another form, which the library parses
        raise SigningUnavailable(f"{key}: {type(error).__name__}", Failure.FAILED) from error


def _classify_code(code: str) -> Failure:
    if code in _THROTTLED:
        return Failure.THROTTLED
    if code in _UNAUTHORIZED:
        return Failure.UNAUTHORIZED
    return Failure.KEY_UNUSABLE if code in _KEY_UNUSABLE else Failure.FAILED


def _classify(error: Exception) -> Failure:
    from botocore import exceptions as errors  # noqa: PLC0415 - as above

    match error:
        case errors.ConnectTimeoutError() | errors.ReadTimeoutError():
            return Failure.TIMEOUT
        case errors.HTTPClientError() | errors.ConnectionError():
            return Failure.UNREACHABLE
        case errors.NoCredentialsError() | errors.PartialCredentialsError() | errors.CredentialRetrievalError():
            return Failure.UNAUTHORIZED
        case _:
            return Failure.FAILED


def _name_algorithm(algorithm: str) -> str:
    if algorithm[:2] in _HASHING:
        return f"{_HASHING[algorithm[:2]]}{hash_of(algorithm).digest_size * 8}"
    return _ALGORITHMS.get(algorithm, "ML_DSA_SHAKE_256")
