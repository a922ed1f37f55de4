"""The token that the sidecar mints for the upstream."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar

from authz.config.declaring import Field
from authz.config.exchange import Exchange
from authz.config.outbound import MaxCached
from authz.config.rules import ClaimValue
from authz.config.section import Access, Choice, Duration, Items, OrClaim, Section, Setting
from authz.core.minting import RequestField, ScopeClaim, TokenFormat


class TokenClaim(OrClaim):
    """One claim. A plain string is a claim of the caller."""

    example: ClassVar[str] = "{value: edge}"

    claim: str | None = None
    """Claim path, or a name of the issuer's claims."""
    value: Annotated[ClaimValue | None, Field(examples=["edge"])] = None
    """Fixed value."""
    request: Annotated[Choice[RequestField] | None, Field(examples=["path"])] = None
    """Of the request; rule: the rule's name."""


class UpstreamToken(Section):
    """A token for the upstream."""

    header: Annotated[str, Setting(Access.HEADER, envoy=True)] = "txn-token"
    """Always overwritten or removed; authorization: with Bearer."""
    format: Annotated[Choice[TokenFormat], Setting(Access.UNAFFECTED, envoy=True)] = TokenFormat.JWT
    """transaction-token: draft-ietf-oauth-transaction-tokens-10."""
    issuer: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Our iss; required for jwt."""
    audience: Annotated[Items[str], Field(examples=[["orders"]]), Setting(Access.UNAFFECTED)]
    """The aud, unless a rule has upstream_audience."""
    lifetime: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("10s", "1h"))] = timedelta(minutes=2)
    """Longest lifetime; never beyond the caller's token."""
    scope: Annotated[Choice[ScopeClaim], Setting(Access.UNAFFECTED)] = ScopeClaim.REQUIRED
    """Required by the rule, all of the caller's, or none."""
    claims: Annotated[Mapping[str, TokenClaim], Field(examples=[{"tenant": "org"}]), Setting(Access.UNAFFECTED)] = {}
    """More claims; a dot leads into an object; a text is the caller's claim."""
    workload: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Our identity (req_wl); required for transaction tokens."""
    reuse: Annotated[bool | None, Field(examples=[True]), Setting(Access.UNAFFECTED)] = None
    """One token for several requests of a rule; default: true for jwt."""
    shadowed: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Also send it if a shadow rule would deny."""
    max_cached: MaxCached = 10_000

    exchange: Annotated[
        Exchange | None,
        Field(
            examples=[
                {"issuer": "corporate", "client": {"id": "orders-gateway", "secret_file": "/etc/authz/exchange-secret"}}
            ]
        ),
        Setting(envoy=True),
    ] = None
    """Get the token from an issuer (RFC 8693)."""

    @property
    def reused(self) -> bool:
        """Whether a token serves several requests."""
        return self.format is TokenFormat.JWT if self.reuse is None else self.reuse
