"""One trusted identity provider, as part of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from authz.core.claims import ClaimRules
from authz.core.introspection import Introspection
from authz.core.keys import Key, KeySet


@dataclass(frozen=True, slots=True)
class Issuer:
    """The issuer configured as *name*. *keys* is None before the first good set, and past the last.

    *algorithms_written* says that the operator chose *algorithms*: then a key that names none serves each for its type.
    *tenant* is the part of its `iss` that tells it from other issuers with the same source of keys.
    *introspection* says of     which tokens it is asked.
    """

    name: str
    algorithms: frozenset[str]
    rules: ClaimRules
    keys: KeySet | None = None
    algorithms_written: bool = True
    tenant: str | None = None
    introspection: Introspection | None = None

    def owns(self, key: Key) -> bool:
        """Tell whether *key* of a set for many tenants may sign for this one.

        Entra's set says of each key whose it is: `issuer` is a template, or the `iss` of one tenant. That of personal
        accounts has such a key, which must not speak for an organization.
        """
        if self.tenant is None or not key.issuers:
            return True
        return any("{" in issuer or self.tenant in issuer.split("/") for issuer in key.issuers)
