"""Everything that a decision depends on besides the request, in one immutable value.

Feeds and reloads prepare the next snapshot and replace one reference; a request uses the same snapshot throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from authz.core.decision import BEARER
from authz.core.exchange import Exchange
from authz.core.identity import Identity
from authz.core.issuer import Issuer
from authz.core.keys import VerifySignature, verify_by_keys
from authz.core.minting import Minting
from authz.core.policy import Policy
from authz.core.published_document import PublishedDocument
from authz.core.resource_metadata import ProtectedResource
from authz.core.revocation import RevocationSource
from authz.core.risk import RiskEngine
from authz.core.throttle import ClientRules
from authz.core.token import MAX_TOKEN_BYTES, HeaderSource, Source, UnverifiedToken, parse_token


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """Where a token may be, its maximum size, and whether it is forwarded to the upstream.

    *schemes* are those of the challenge to a client that sent no token. *strip_proofs* removes the DPoP header.
    """

    sources: tuple[Source, ...] = (HeaderSource("authorization", "Bearer"),)
    max_bytes: int = MAX_TOKEN_BYTES
    forward: bool = True
    schemes: tuple[str, ...] = BEARER
    strip_proofs: bool = False


class BodyFormat(StrEnum):
    """The format of the body of a denial: RFC 9457, or one line of text."""

    PROBLEM_JSON = "problem+json"
    TEXT = "text"


class Unavailable(StrEnum):
    """The response to Envoy while keys are unavailable: a denial, or an error that `failure_mode_allow` applies to."""

    DENY = "deny"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """How denials are sent to the client, and the document that the sidecar serves (*resource*, RFC 9728).

    *proof_algorithms* are for DPoP challenges.
    """

    realm: str = "api"
    body: BodyFormat = BodyFormat.PROBLEM_JSON
    expose_reason: bool = False
    unavailable: Unavailable = Unavailable.DENY
    resource: ProtectedResource | None = None
    proof_algorithms: tuple[str, ...] = ()


class ParseToken(Protocol):
    """Parses a token: `authz.core.token.parse_token`, or the same with a cache."""

    def __call__(self, text: str, /, *, max_bytes: int) -> UnverifiedToken:
        """Parse *text*, of at most *max_bytes*. Raises Rejected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state at one moment. *issuers* are by `iss`; *parse_token* and *verify_signature* may use a cache.

    *opaque* pairs the prefix of opaque tokens with the `iss` of the issuer that introspects them, the longest prefix
    first. With *clients*, the failures of client networks are counted. *revocations* are the sources of revoked tokens;
    entries may be added to their tables while the snapshot is in use.
    *minting* is how tokens for the upstream are minted, *published* the documents about the keys that sign them;
    *exchange* is how an issuer issues tokens for the upstream instead.
    """

    issuers: Mapping[str, Issuer]
    policy: Policy
    identity: Identity = field(default_factory=Identity)
    token: TokenRules = field(default_factory=TokenRules)
    responses: Responses = field(default_factory=Responses)
    shadow_all: bool = False
    parse_token: ParseToken = parse_token
    verify_signature: VerifySignature = verify_by_keys
    opaque: tuple[tuple[str, str], ...] = ()
    clients: ClientRules | None = None
    risk: RiskEngine | None = None
    revocations: tuple[RevocationSource, ...] = ()
    minting: Minting | None = None
    published: tuple[PublishedDocument, ...] = ()
    exchange: Exchange | None = None

    @property
    def sends_token(self) -> bool:
        """Whether the upstream gets a token of its own."""
        return self.minting is not None or self.exchange is not None

    @property
    def sends_token_in_shadow(self) -> bool:
        """Whether it gets one also with a request that a shadow rule would deny."""
        how = self.minting or self.exchange
        return how is not None and how.shadowed
