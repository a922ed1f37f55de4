"""OpenID Connect Discovery 1.0, and the metadata of Shared Signals: find the URL of an issuer's keys."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from authz.core.issuer_document import parse_document
from authz.core.strictjson import MAX_CONTAINERS
from authz.telemetry.redaction import printable

_OIDC_WELL_KNOWN = "/.well-known/openid-configuration"
_SSF_WELL_KNOWN = "/.well-known/ssf-configuration"


def discovery_url(issuer: str) -> str:
    """Return the URL of the issuer's discovery document (section 4.1), without the issuer's trailing slash."""
    return issuer.removesuffix("/") + _OIDC_WELL_KNOWN


def transmitter_url(issuer: str) -> str:
    """Return the URL of a transmitter's metadata (SSF 1.0 section 7.2): before the path of the issuer."""
    parts = urlsplit(issuer)
    return urlunsplit((parts.scheme, parts.netloc, _SSF_WELL_KNOWN + parts.path.removesuffix("/"), "", ""))


def read_jwks_uri(document: bytes, *, issuer: str) -> str:
    """Return `jwks_uri` of a discovery document whose `issuer` must be exactly *issuer* (section 4.3).

    Raises ValueError.
    """
    return read_url("jwks_uri", document, issuer=issuer)


def read_url(name: str, document: bytes, *, issuer: str) -> str:
    """Return the URL that is the member *name* of a discovery document of *issuer*. Raises ValueError."""
    members = parse_document(document, max_containers=MAX_CONTAINERS)
    named_issuer = members.get("issuer")
    if named_issuer != issuer:
        raise ValueError(f"the discovery document is of issuer {printable(str(named_issuer))}, not {issuer}")
    uri = members.get(name)
    if not isinstance(uri, str):
        raise ValueError(f"the discovery document has no {name}")  # noqa: TRY004 - bad data
    return uri
