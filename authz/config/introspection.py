"""How an issuer is asked about its tokens (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from authz.config.section import Access, Duration, Items, Section, Setting, Size, Word
from authz.core.introspection import IntrospectionMode


class AskedBy(StrEnum):
    """The protocol by which tokens are asked about: OAuth's, or that of Kubernetes."""

    RFC7662 = "rfc7662"
    TOKEN_REVIEW = "token_review"


class TokenKind(StrEnum):
    """What proves in an answer that a token is an access token; see PROOFS in authz.core.introspection."""

    BEARER = "bearer"
    TOKEN_USE = "token_use"
    TYP = "typ"


class Client(Section):
    """Who asks, and how that is proved: one of the four."""

    id: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """The client id of the sidecar at the server; a bearer token needs none."""
    secret_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with the client's secret (client_secret_basic); read each time."""
    private_key_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with a private key, PEM or a JWK, that signs assertions (private_key_jwt); read each time."""
    key_id: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """The kid of that key at the server, where a JWK does not have it."""
    algorithm: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """The algorithm of assertions; without it RS256, the one of the key's curve, or EdDSA."""
    mtls: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Prove it by the certificate that the connection shows (fetch.client_cert_file, RFC 8705)."""
    bearer_token_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with a bearer token; read each time."""


class Introspection(Section):
    """How an issuer is asked about its tokens."""

    kind: Annotated[Word[AskedBy], Setting(Access.UNKNOWN)] = AskedBy.RFC7662
    """rfc7662, or token_review: a Kubernetes API server, which knows of deleted pods; needs mode: always."""
    url: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """URL of the introspection endpoint; without it discovery names it, on the issuer's own host and port."""
    client: Client
    """Who asks."""
    mode: Annotated[
        Word[IntrospectionMode], Setting(Access.UNKNOWN, meaning="whether JWTs must be active at their issuer too")
    ] = IntrospectionMode.OPAQUE
    """opaque: asked about tokens that are no JWT. always: about JWTs too, after their own checks."""
    token_prefix: Annotated[str, Setting(Access.UNKNOWN)] = ""
    """How this issuer's opaque tokens begin, such as ory_at_; without it, all that no other issuer's prefix fits."""
    token_kind: Annotated[
        Word[TokenKind], Setting(Access.UNKNOWN, meaning="what else the issuer calls active may pass")
    ] = TokenKind.BEARER
    """Proof of an access token: bearer (token_type), or token_use or typ where refresh tokens are Bearer too."""
    token_proof: Annotated[
        Mapping[str, Items[str]],
        Field(examples=[{"token_use": ["access_token"]}]),
        Setting(Access.UNKNOWN, meaning="what else the issuer calls active may pass"),
    ] = {}
    """In place of token_kind: members that an answer must have, each with one of the listed values."""
    signed: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Ask for signed answers (RFC 9701), which are verified with the issuer's keys, and accept no others."""
    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"))] = timedelta(seconds=2)
    """Bound of one whole exchange."""
    max_wait: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"), envoy=True)] = timedelta(seconds=1)
    """Longest time that a request waits for the answer."""
    cache: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("0s", "1h"), meaning="a revoked token passes for so long")
    ] = timedelta(seconds=30)
    """How long an active token is not asked about again; at most until it expires."""
    cache_inactive: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "1m"))] = timedelta(seconds=5)
    """How long an inactive token is not asked about again."""
    max_cached: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "1000000"))] = 10_000
    """Largest number of cached answers."""
    max_cached_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1MiB", "1024MiB"))] = 32 * 1024 * 1024
    """Largest size of all cached answers."""
    max_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "1MiB"))] = 64 * 1024
    """Largest answer that is read."""
    max_concurrent: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "256"))] = 16
    """Questions that are under way at one time, each on a thread and a connection."""
    max_per_second: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "10000"))] = 100
    """Questions a second; so many may come at once."""
