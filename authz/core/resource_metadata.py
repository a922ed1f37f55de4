"""The protected resource metadata that the sidecar itself serves (RFC 9728).

It tells clients where to get a token. It is served to any client and for any host before rules are evaluated, but only
at two paths and only for GET and HEAD.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from authz.core.reasons import Rejected
from authz.core.request import Target, parse_path

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
METHODS: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class ProtectedResource:
    """The JSON *document*, its *url* for challenges, and the *paths* where it is served, as decoded segments."""

    document: str
    url: str
    paths: frozenset[tuple[str, ...]]

    @classmethod
    def describe(
        cls,
        identifier: str,
        *,
        authorization_servers: tuple[str, ...],
        scopes: tuple[str, ...],
        methods: tuple[str, ...],
        proof_algorithms: tuple[str, ...] = (),
        bound_only: bool = False,
    ) -> Self:
        """Create the metadata of the resource *identifier*, an https URL (RFC 9728 section 2), without empty members.

        Raises ValueError if the identifier's path has no canonical form.
        """
        members = {
            "resource": identifier,
            "authorization_servers": authorization_servers,
            "scopes_supported": scopes,
            "bearer_methods_supported": methods,
            "dpop_signing_alg_values_supported": proof_algorithms,
            "dpop_bound_access_tokens_required": bound_only,
        }
        parts = urlsplit(identifier)
        # Section 3.1: the well-known part is inserted between host and path.
        path = WELL_KNOWN + (parts.path if parts.path != "/" else "")
        try:
            paths = [parse_path(text) for text in (WELL_KNOWN, path)]
        except Rejected as rejected:
            raise ValueError(rejected.detail) from None
        if any(path.encodings for path in paths):
            raise ValueError("its path is ambiguous: servers interpret it differently")
        return cls(
            json.dumps({name: value for name, value in members.items() if value}),
            parts._replace(path=path).geturl(),
            frozenset(path.segments for path in paths),
        )

    def matches_document(self, target: Target) -> bool:
        """Return whether *target* is a request for the document."""
        return target.path.segments in self.paths and target.method in METHODS and not target.path.encodings
