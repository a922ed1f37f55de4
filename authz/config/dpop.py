"""How proofs of possession are checked, if an issuer's tokens may be bound to a key (DPoP, RFC 9449)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from authz.config.declaring import Field
from authz.config.section import Access, Choice, Duration, Items, Section, Setting
from authz.core.algorithms import DEFAULT_ALGORITHMS


class NonceUse(StrEnum):
    """When clients are given a nonce: in answer to a proof whose time is wrong, or before every first proof."""

    STALE = "stale"
    ALWAYS = "always"


class Dpop(Section):
    """Proofs of possession (DPoP, RFC 9449)."""

    origins: Annotated[Items[str], Field(examples=[["https://api.example.com"]]), Setting(Access.LISTED)] = ()
    """Origins as clients see them; default: https and the request's host."""
    algorithms: Annotated[Items[str], Setting(Access.LISTED)] = DEFAULT_ALGORITHMS
    """Accepted algorithms."""
    max_age: Annotated[Duration, Setting(Access.LIMIT, bounds=("1s", "1h"))] = timedelta(minutes=5)
    """Longest time since the proof's iat."""
    max_ahead: Annotated[Duration, Setting(Access.LIMIT, bounds=("0s", "5m"))] = timedelta(seconds=30)
    """How far iat may be ahead of our clock."""
    nonces: Annotated[Choice[NonceUse], Setting(Access.LOOSENED, loose="stale")] = NonceUse.STALE
    """stale: only after a proof with a wrong time."""
    nonce_secret_file: Annotated[str | None, Setting(Access.UNAFFECTED, restart=True)] = None
    """32 octets or more, equal in all replicas; default: revocation.shared.secret_file, or random."""
    max_proofs: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1000", "10000000"), restart=True)] = 200_000
    """Used proofs in memory (100 octets each); without shared_state, more get 503."""
    forward: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Send the DPoP header upstream."""
