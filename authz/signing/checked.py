"""A signer of a remote private key: what it returns is verified before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey


class UncheckedSigner(Protocol):
    """A private key in a device or a service. Safe for use by several threads at one time."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message* as JWS has it. May block. Raises SigningUnavailable."""

    def close(self) -> None:
        """Release sessions and connections."""


class CheckedSigner:
    """Signs with *key*, whose public half is *public*."""

    __slots__ = ("_closed", "_key", "_public", "algorithm", "kid", "problem")

    def __init__(self, key: UncheckedSigner, public: PublicKey, *, kid: str | None = None) -> None:
        self._key: Final = key
        self._public: Final = public
        self._closed = False
        self.algorithm: Final = public.algorithm
        self.kid: Final = kid or public.thumbprint
        self.problem = ""

    def __repr__(self) -> str:
        return f"CheckedSigner(kid={self.kid!r}, algorithm={self.algorithm!r})"

    def public_jwk(self) -> Mapping[str, object]:
        """Return the public members, with kid, alg and use."""
        return self._public.jwk(self.kid)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*. Raises SigningUnavailable."""
        if self._closed:
            raise SigningUnavailable("the configuration has changed meanwhile", Failure.MISCONFIGURED)
        try:
            signature = self._key.sign(message)
            if not self._public.verifies(message, signature):
                raise SigningUnavailable("the answer is not a signature of this key", Failure.WRONG_ANSWER)
        except SigningUnavailable as error:
            if error.failure is not Failure.REQUEST:
                self.problem = str(error)
            raise
        self.problem = ""
        return signature

    def close(self) -> None:
        """Release sessions and connections."""
        if not self._closed:
            self._closed = True
            self._key.close()
