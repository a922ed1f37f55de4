"""What a recipe is tested by: the documents that its provider serves, its tokens, and what becomes of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authz.core.reasons import Reason
from authz.testing import Gateway, Verdict
from tests.fixtures import T, changed, signer
from tests.tools import ROOT

FOLDER: Final = ROOT / "deploy/recipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as its provider writes it: `alg` and `kid` of the key that signs, and the rest of the *header*."""

    claims: Mapping[str, object]
    kid: str
    algorithm: str = "RS256"
    header: Mapping[str, object] = field(default_factory=dict)

    def but(
        self,
        claims: Mapping[str, object] | None = None,
        /,
        *,
        header: Mapping[str, object] | None = None,
        **others: object,
    ) -> Token:
        """Return this token with changes to its claims and its header; what is ABSENT there is left out."""
        return replace(
            self,
            claims=changed(self.claims, {**(claims or {}), **others}),
            header={**self.header, **(header or {})},
        )

    def by(self, kid: str, algorithm: str = "RS256") -> Token:
        """Return this token, signed by another key."""
        return replace(self, kid=kid, algorithm=algorithm)

    def __str__(self) -> str:
        header = changed({"alg": self.algorithm, "kid": self.kid}, self.header)
        return signer(self.algorithm, self.kid).sign(self.claims, header=header)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request, as method and URL, and what becomes of it. *challenge* is a part of the one that is sent.

    *answer* is what the issuer says if it is asked about the token (RFC 7662).
    """

    proves: str
    request: str
    token: Token | str
    reason: Reason
    headers: Mapping[str, str] = field(default_factory=dict)
    challenge: str = ""
    answer: Mapping[str, object] | None = None

    def about(self, answer: Mapping[str, object]) -> Case:
        """Return this case with what the issuer says of the token."""
        return replace(self, answer=answer)

    def decide(self, gateway: Gateway) -> Verdict:
        """Send the request through *gateway*."""
        method, _, url = self.request.partition(" ")
        return gateway.decide(method, url, token=str(self.token), answer=self.answer)


def passes(proves: str, request: str, token: Token | str, **headers: str) -> Case:
    """Write a case that is allowed; *headers* are all identity headers, `_` for `-`, without their `x-auth-`."""
    named = {f"x-auth-{name.replace('_', '-')}": value for name, value in headers.items()}
    return Case(proves=proves, request=request, token=token, reason=Reason.AUTHENTICATED, headers=named)


def fails(proves: str, request: str, token: Token | str, reason: Reason, challenge: str = "") -> Case:
    """Write a case that is refused."""
    return Case(proves=proves, request=request, token=token, reason=reason, challenge=challenge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe, the JSON documents of its provider by their URLs, and its cases.

    *rejected_keys* are the keys of these documents that must not be used, by their issuer. *accepts* is the media
    type that anyone who fetches must take. *absent* are settings with files that only a place like the recipe's has.
    """

    name: str
    serves: Callable[[], Mapping[str, object]]
    cases: tuple[Case, ...]
    rejected_keys: Mapping[str, list[str | None]] = field(default_factory=dict)
    accepts: str = "application/json"
    absent: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The recipe itself."""
        return FOLDER / f"{self.name}.yaml"


def discovery(issuer: str, jwks_uri: str, *, at: str | None = None) -> dict[str, object]:
    """Write the discovery document of *issuer*, below it or *at* another URL."""
    url = at or f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    return {url: {"issuer": issuer, "jwks_uri": jwks_uri, "id_token_signing_alg_values_supported": ["RS256"]}}


def jwk(kid: str, algorithm: str = "RS256", **members: object) -> dict[str, object]:
    """Write the public half of a key; *members* change it, and ABSENT leaves one out."""
    return changed(signer(algorithm, kid).public(), members)


def certificate(kid: str) -> list[str]:
    """Make the `x5c` of an RSA key: one certificate, signed by itself."""
    key: Any = signer("RS256", kid).jwk.get_op_key("sign")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kid)])
    start = datetime.fromtimestamp(T, tz=UTC)
    built = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365))
        .sign(key, SHA256())
    )
    return [b64encode(built.public_bytes(Encoding.DER)).decode()]
