"""How an issuer is asked about its tokens (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from authz.config.declaring import Field
from authz.config.outbound import (
    BearerTokenFile,
    MaxBytes,
    MaxCached,
    MaxConcurrent,
    MaxPerSecondAtIssuer,
    MaxWait,
    Timeout,
)
from authz.config.section import Access, Choice, Duration, Items, Section, Setting, Size
from authz.core.introspection import IntrospectionMode


class IntrospectionKind(StrEnum):
    """The protocol by which tokens are asked about: OAuth's, or that of Kubernetes."""

    RFC7662 = "rfc7662"
    TOKEN_REVIEW = "token_review"


class TokenKind(StrEnum):
    """What proves in an answer that a token is an access token."""

    BEARER = "bearer"
    TOKEN_USE = "token_use"
    TYP = "typ"


class Client(Section):
    """Our client and its credentials."""

    id: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Client id; none with a bearer token."""
    secret_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Client secret (client_secret_basic)."""
    private_key_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM or JWK for assertions (private_key_jwt)."""
    key_id: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Its kid; default: from the JWK."""
    algorithm: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Its alg; default: RS256, EdDSA, or that of the curve."""
    mtls: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Authenticate by fetch.client_cert_file (RFC 8705)."""
    bearer_token_file: BearerTokenFile = None


class Introspection(Section):
    """Ask the issuer about tokens."""

    kind: Annotated[Choice[IntrospectionKind], Setting(Access.UNKNOWN)] = IntrospectionKind.RFC7662
    """token_review: Kubernetes; needs mode: always."""
    url: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """Endpoint; default: from discovery."""
    client: Client
    """Our client and its credentials."""
    mode: Annotated[
        Choice[IntrospectionMode], Setting(Access.UNKNOWN, meaning="whether JWTs must be active at their issuer too")
    ] = IntrospectionMode.OPAQUE
    """opaque: only opaque tokens."""
    token_prefix: Annotated[str, Setting(Access.UNKNOWN)] = ""
    """Prefix of its opaque tokens; default: all others."""
    token_kind: Annotated[
        Choice[TokenKind], Setting(Access.UNKNOWN, meaning="what else the issuer calls active may pass")
    ] = TokenKind.BEARER
    """Member that proves an access token; bearer: token_type."""
    token_proof: Annotated[
        Mapping[str, Items[str]],
        Field(examples=[{"token_use": ["access_token"]}]),
        Setting(Access.UNKNOWN, meaning="what else the issuer calls active may pass"),
    ] = {}
    """Or members and their accepted values."""
    signed: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Require signed answers (RFC 9701)."""
    timeout: Timeout = timedelta(seconds=2)
    max_wait: MaxWait = timedelta(seconds=1)
    cache: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("0s", "1h"), meaning="a revoked token passes for so long")
    ] = timedelta(seconds=30)
    """How long an answer serves."""
    cache_inactive: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "1m"))] = timedelta(seconds=5)
    """How long inactive tokens are cached."""
    max_cached: MaxCached = 10_000
    max_cached_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1MiB", "1024MiB"))] = 32 * 1024 * 1024
    """Size of all cached answers."""
    max_bytes: MaxBytes = 64 * 1024
    max_concurrent: MaxConcurrent = 16
    max_per_second: MaxPerSecondAtIssuer = 100
