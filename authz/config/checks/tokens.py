"""Checks of token sources, and of responses to denied clients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from authz.config.address import check_url
from authz.config.model import Config, TokenSource
from authz.config.problems import KeyPath, Problem
from authz.core.resource_metadata import ProtectedResource

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110 section 5.1, in lower case as in HTTP/2
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
SCOPE: Final = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 section 3.3

# Headers that frame or route the message: they can contain neither a token nor an identity.
STRUCTURAL_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def check_sources(config: Config) -> Iterator[Problem]:
    """Report sources that cannot contain a token, and duplicate sources."""
    path: KeyPath = ("token", "sources")
    sources = config.token.sources
    if not sources:
        yield Problem(path=path, message="must not be empty")
    for index, source in enumerate(sources):
        message = _check_source(source)
        if message:
            yield Problem(path=(*path, index), message=message)
        elif (source.header, source.cookie) in {(other.header, other.cookie) for other in sources[:index]}:
            yield Problem(path=(*path, index), message="is named twice")


def _check_source(source: TokenSource) -> str:
    if (source.header is None) == (source.cookie is None):
        return "must have either header or cookie"
    if source.cookie is not None:
        if source.scheme:
            return "a cookie has no scheme"
        return "" if TOKEN.fullmatch(source.cookie) else "the name of the cookie has invalid characters"
    if not HEADER_NAME.fullmatch(source.header or ""):
        return "the name of the header must be in lower case, without spaces and colons"
    if source.header in STRUCTURAL_HEADERS or source.header == "cookie":
        return f"the header {source.header} cannot contain a token"
    if source.scheme and not TOKEN.fullmatch(source.scheme):
        return "the scheme must be one word"
    return ""


def check_query_token(config: Config) -> Iterator[Problem]:
    """Report an invalid name of a query parameter."""
    name = config.insecure.query_token
    if name is not None and not re.fullmatch(r"[A-Za-z0-9._~-]+", name):
        yield Problem(path=("insecure", "query_token"), message="must have only letters, digits and any of . _ ~ -")


def check_responses(config: Config) -> Iterator[Problem]:
    """Report an invalid realm (RFC 9110 section 11.5)."""
    if not re.fullmatch(r"[ -~]+", config.responses.realm):
        yield Problem(path=("responses", "realm"), message="must be printable ASCII, and not empty")


def check_resource(config: Config) -> Iterator[Problem]:
    """Report metadata that RFC 9728 section 2 does not allow."""
    if config.resource is None:
        return
    try:
        check_url(config.resource.identifier)
        ProtectedResource.describe(config.resource.identifier, authorization_servers=(), scopes=(), methods=())
    except ValueError as error:
        yield Problem(path=("resource", "identifier"), message=str(error))
    yield from check_scopes(config.resource.scopes, ("resource", "scopes"))


def check_scopes(scopes: tuple[str, ...], path: KeyPath) -> Iterator[Problem]:
    """Report invalid scopes: a space separates scopes, and a quotation mark ends the challenge's parameter."""
    for index, scope in enumerate(scopes):
        if not SCOPE.fullmatch(scope):
            message = "must be visible ASCII without spaces, quotation marks and backslashes"
            yield Problem(path=(*path, index), message=message)
