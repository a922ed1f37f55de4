"""The token that the sidecar mints for the upstream."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field

from authz.config.exchange import Exchange
from authz.config.rules import ClaimValue
from authz.config.section import Access, Duration, Items, OrClaim, Section, Setting, Word
from authz.core.minting import RequestField, ScopeClaim, TokenFormat


class TokenClaim(OrClaim):
    """One claim of the token: the caller's, a fixed one, or of the request. A plain string is a claim of the caller."""

    example: ClassVar[str] = "{value: edge}"

    claim: str | None = None
    """A claim path, or a name of the issuer's claims."""
    value: Annotated[ClaimValue | None, Field(examples=["edge"])] = None
    """A fixed value."""
    request: Annotated[Word[RequestField] | None, Field(examples=["path"])] = None
    """The name of the rule, or the method, host, path or client address."""


class UpstreamToken(Section):
    """The token for the upstream: signed by the sidecar after it allowed an authenticated request."""

    header: Annotated[str, Setting(Access.HEADER, envoy=True)] = "txn-token"
    """Its header, always overwritten or removed; authorization replaces the caller's token, as a bearer token."""
    format: Annotated[Word[TokenFormat], Setting(Access.UNAFFECTED)] = TokenFormat.JWT
    """jwt, or transaction-token (draft-ietf-oauth-transaction-tokens-10: typ txntoken+jwt, req_wl, one aud)."""
    issuer: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Its iss: ours. Required for jwt."""
    audience: Annotated[Items[str], Field(examples=[["orders"]]), Setting(Access.UNAFFECTED)]
    """Its aud, unless a rule has upstream_audience; for transaction tokens the trust domain."""
    lifetime: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("10s", "1h"))] = timedelta(minutes=2)
    """Its longest life; it never outlives the caller's token."""
    scope: Annotated[Word[ScopeClaim], Setting(Access.UNAFFECTED)] = ScopeClaim.REQUIRED
    """required: the scopes that the rule asks for, of those granted. granted: all of these. none."""
    claims: Annotated[Mapping[str, TokenClaim], Field(examples=[{"tenant": "org"}]), Setting(Access.UNAFFECTED)] = {}
    """Further claims by name; a dot leads into an object: tctx.order. An absent value leaves the claim out."""
    workload: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Our own identity: req_wl. Required for transaction tokens."""
    reuse: Annotated[bool | None, Field(examples=[True]), Setting(Access.UNAFFECTED)] = None
    """Send one token with several requests of a caller under one rule; by default for jwt, not for transactions."""
    shadowed: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Mint one for requests that a shadow rule would deny too, if the caller's token is valid."""
    max_cached: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "1000000"))] = 10_000
    """Largest number of tokens that are kept for reuse."""

    exchange: Annotated[
        Exchange | None,
        Field(
            examples=[
                {"issuer": "corporate", "client": {"id": "orders-gateway", "secret_file": "/etc/authz/exchange-secret"}}
            ]
        ),
        Setting(envoy=True),
    ] = None
    """Have an issuer give the token in exchange for the caller's (RFC 8693), instead of signing one."""

    @property
    def reused(self) -> bool:
        """Whether a token serves several requests."""
        return self.format is TokenFormat.JWT if self.reuse is None else self.reuse
