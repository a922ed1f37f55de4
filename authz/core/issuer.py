"""One trusted issuer, as part of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from authz.core.claims import ClaimRules
from authz.core.dpop import Possession, ProofRules
from authz.core.introspection import Introspection
from authz.core.keys import Key, KeySet
from authz.core.status_list import StatusRules


class LogoutScope(StrEnum):
    """Which tokens a logout ends: those of a session, if it is named, or all of a subject."""

    SESSION = "session"
    SUBJECT = "subject"


@dataclass(frozen=True, slots=True)
class LogoutRules:
    """The OAuth *clients* that logout tokens of an issuer may be for, and what they end."""

    clients: frozenset[str]
    scope: LogoutScope = LogoutScope.SESSION


@dataclass(frozen=True, slots=True)
class Issuer:
    """The issuer configured as *name*. *keys* is None while there is no key set that may be used.

    *algorithms_configured* means that the operator chose *algorithms*: a key without `alg` may then be used for each of
    them that fits its type.
    *tenant* is the part of `iss` that differs between the issuers of one multi-tenant key set.
    *introspection* says which of its tokens are introspected.
    *logout* says which logout tokens of it are accepted, *status_list* which status lists its tokens may name.
    *possession* says whether its tokens may be bound to a key by DPoP, and *proofs* what the proofs must fulfil.
    """

    name: str
    algorithms: frozenset[str]
    rules: ClaimRules
    keys: KeySet | None = None
    algorithms_configured: bool = True
    tenant: str | None = None
    introspection: Introspection | None = None
    possession: Possession = Possession.OFF
    proofs: ProofRules = field(default_factory=ProofRules)
    logout: LogoutRules | None = None
    status_list: StatusRules | None = None

    def owns(self, key: Key) -> bool:
        """Return whether *key* of a multi-tenant key set may sign for this tenant.

        Entra adds `issuer` to each key: a template for all tenants, or the `iss` of one tenant. The key set for
        personal accounts has a key of the latter kind, which must not sign for an organization.
        """
        if self.tenant is None or not key.issuers:
            return True
        return any("{" in issuer or self.tenant in issuer.split("/") for issuer in key.issuers)
