"""OAuth client authentication of the sidecar at a server.

Rules of this file:
1. Secrets are read from their files for each request, because they change while the sidecar runs; see also
   `cached_credentials`. No error contains them.
2. Each request has a new assertion.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import quote_plus
from uuid import uuid4

from jwcrypto.jwa import JWA
from jwcrypto.jwk import JWK

from authz.core import base64url
from authz.feeds.failure import RefreshError
from authz.feeds.http.credentials import read_basic_credentials, read_token
from authz.telemetry.keys import Refresh

ASSERTION_SECONDS: Final = 60
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ALGORITHMS: Final = {"RSA": "RS256", "EC P-256": "ES256", "EC P-384": "ES384", "EC P-521": "ES512", "OKP": "EdDSA"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials in one request: *headers*, and *fields* of its form."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


class ClientAuth(Protocol):
    """A method of client authentication."""

    @property
    def is_nonblocking(self) -> bool:
        """Whether `credentials` reads no file and signs nothing: a thread that must not wait may call it."""

    def credentials(self) -> Credentials:
        """Return the credentials for one request. Raises RefreshError."""


@dataclass(frozen=True, slots=True)
class NoAuth:
    """No client authentication."""

    is_nonblocking: ClassVar[bool] = True

    def credentials(self) -> Credentials:
        """Return no credentials."""
        return NO_CREDENTIALS


NO_CREDENTIALS: Final = Credentials()


@dataclass(frozen=True, slots=True)
class ClientSecretBasicFile:
    """client_secret_basic (RFC 6749 section 2.3.1) with the secret in *file*; both parts are form-encoded first."""

    client_id: str
    file: str
    is_nonblocking: ClassVar[bool] = False

    def credentials(self) -> Credentials:
        """Return the Authorization header. Raises RefreshError."""
        return ClientSecretBasic(self.client_id, _read("secret_file", self.file)).credentials()


@dataclass(frozen=True, slots=True)
class ClientSecretBasic:
    """client_secret_basic with the *secret* itself instead of a file."""

    client_id: str
    secret: str = field(repr=False)
    is_nonblocking: ClassVar[bool] = True

    def credentials(self) -> Credentials:
        """Return the Authorization header."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
        return Credentials({"authorization": f"Basic {b64encode(pair.encode()).decode('ascii')}"})


@dataclass(frozen=True, slots=True)
class PrivateKeyJwt:
    """private_key_jwt (RFC 7523 section 2.2) for *audience*, signed with the key in *file*, PEM or a JWK."""

    client_id: str
    file: str
    audience: str
    key_id: str | None = None
    algorithm: str | None = None
    now: Callable[[], float] = time.time
    is_nonblocking: ClassVar[bool] = False

    def credentials(self) -> Credentials:
        """Return the fields of a new assertion. Raises RefreshError."""
        key = _read_key(self.file)
        algorithm = self.algorithm or _ALGORITHMS.get(_kind(key), "")
        issued = int(self.now())
        header = {"alg": algorithm, "typ": "JWT", "kid": self.key_id or key.get("kid")}
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.audience,
            "jti": str(uuid4()),
            "iat": issued,
            "exp": issued + ASSERTION_SECONDS,
        }
        signing_input = ".".join((_encode({k: v for k, v in header.items() if v is not None}), _encode(claims)))
        try:
            signer: Any = JWA.signing_alg(algorithm)  # jwcrypto's type stubs have no `sign`
            signature = signer.sign(key, signing_input.encode("ascii"))
        except Exception as error:  # jwcrypto has many
            text = f"private_key_file {self.file}: cannot sign by {algorithm or 'any algorithm'}"
            raise RefreshError(Refresh.MISCONFIGURED, text) from error
        assertion = f"{signing_input}.{base64url.encode(signature).decode('ascii')}"
        return Credentials(
            fields={
                "client_id": self.client_id,
                "client_assertion_type": _ASSERTION_TYPE,
                "client_assertion": assertion,
            }
        )


@dataclass(frozen=True, slots=True)
class TlsClientAuth:
    """tls_client_auth (RFC 8705 section 2): only the id; the client certificate authenticates."""

    client_id: str
    is_nonblocking: ClassVar[bool] = True

    def credentials(self) -> Credentials:
        """Return the id."""
        return Credentials(fields={"client_id": self.client_id})


@dataclass(frozen=True, slots=True)
class BearerTokenFile:
    """A bearer token in a file."""

    file: str
    is_nonblocking: ClassVar[bool] = False

    def credentials(self) -> Credentials:
        """Return the Authorization header. Raises RefreshError."""
        return Credentials({"authorization": f"Bearer {read_token(self.file)}"})


@dataclass(frozen=True, slots=True)
class BasicAuthFile:
    """Basic authentication (RFC 7617) with `user:password` in a file."""

    file: str
    is_nonblocking: ClassVar[bool] = False

    def credentials(self) -> Credentials:
        """Return the Authorization header. Raises RefreshError."""
        return Credentials({"authorization": read_basic_credentials(self.file)})


def _read(key: str, file: str) -> str:
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise RefreshError(Refresh.MISCONFIGURED, f"{key} {file}: {error.strerror}") from None
    except ValueError:
        text = ""
    if not text:
        raise RefreshError(Refresh.MISCONFIGURED, f"{key} {file}: is empty or no text")
    return text


def _read_key(file: str) -> Any:  # noqa: ANN401 - jwcrypto's classes have loose types
    text = _read("private_key_file", file)
    try:
        key = JWK.from_json(text) if text.startswith("{") else JWK.from_pem(text.encode())
    except Exception as error:  # jwcrypto and cryptography have many
        text = f"private_key_file {file}: is neither an unencrypted private key in PEM nor a JWK"
        raise RefreshError(Refresh.MISCONFIGURED, text) from error
    if not key.has_private:
        raise RefreshError(Refresh.MISCONFIGURED, f"private_key_file {file}: contains a public key")
    return key


def _kind(key: Any) -> str:  # noqa: ANN401 - as above
    return f"EC {key.get('crv')}" if key.get("kty") == "EC" else str(key.get("kty"))


def _encode(members: Mapping[str, object]) -> str:
    return base64url.encode(json.dumps(members, separators=(",", ":")).encode()).decode("ascii")
