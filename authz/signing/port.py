"""The port to a private key, wherever it is: in this process, in hardware, or in a service of a cloud.

Rules of this file:
1. A signer never returns private members, and has none in its `repr` or in any error.
2. A signer exists once its public key is known: opening it and `sign` may block, nothing else does. Only threads of
   lanes and background threads open and sign, never the deciding thread (authz.facts.lane), unless the key is local.
3. A signer keeps the key that it was opened with: another key under the same name is an error, not a new key.
4. A signer does not retry, and its own timeout bounds each call: the lane has budget, circuit breaker and maximum wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol


class Failure(StrEnum):
    """Why there is no signature: the label of metrics."""

    UNREACHABLE = "unreachable"  # no connection, no device, or a reset
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    UNAUTHORIZED = "unauthorized"  # the service or the token rejects our credentials or our PIN
    KEY_UNUSABLE = "key_unusable"  # absent, disabled, pending deletion, replaced, or of another algorithm
    MISCONFIGURED = "misconfigured"  # a file or a package is missing
    FAILED = "failed"  # an error of the service or of the device
    WRONG_ANSWER = "wrong_answer"  # not a signature of this key
    REQUEST = "request"  # what is to be signed is the cause, not the key: callers must not be able to open the breaker


class SigningUnavailable(Exception):
    """Raised if there is no signature now; the text *why* is for the operator and contains no secrets."""

    def __init__(self, why: str, failure: Failure = Failure.FAILED) -> None:
        super().__init__(why)
        self.failure = failure


class Signer(Protocol):
    """One private key. Safe for use by several threads at one time."""

    @property
    def algorithm(self) -> str:
        """The `alg` of its signatures (RFC 7518 section 3.1, RFC 8037, RFC 9864)."""

    @property
    def kid(self) -> str:
        """The key id: as configured, or the SHA-256 thumbprint of the public key (RFC 7638)."""

    @property
    def problem(self) -> str:
        """Why the last signature failed, for the operator, without secrets; empty if it did not."""

    def public_jwk(self) -> Mapping[str, object]:
        """Return the public members of the JWK, with kid, alg and use."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message* in the form of JWS: ECDSA is r || s of fixed length (RFC 7518 section 3.4).

        May block. Raises SigningUnavailable.
        """

    def close(self) -> None:
        """Release sessions and connections. A later `sign` raises SigningUnavailable."""


OpenSigner = Callable[[], Signer]
"""Opens a configured key. May block. Raises SigningUnavailable."""
