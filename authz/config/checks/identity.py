"""Checks of the identity headers and of the claims for Envoy's dynamic metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from authz.config.checks.rules import check_claim
from authz.config.checks.tokens import HEADER_NAME, STRUCTURAL_HEADERS
from authz.config.model import Config, HeaderValue
from authz.config.problems import KeyPath, Problem
from authz.core.identity import Format, separator_variants

MAX_IDENTITY_HEADERS: Final = 64

_CREDENTIALS: Final = frozenset({"cookie", "proxy-authorization"})
_SAFE_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_JOIN: Final = re.compile(r"[ -~]{1,8}")


def check_headers(config: Config) -> Iterator[Problem]:
    """Report names that must not be overwritten, two spellings of one name, and invalid values."""
    path: KeyPath = ("identity", "headers")
    headers = config.identity.headers
    if len(headers) > MAX_IDENTITY_HEADERS:
        yield Problem(path=path, message=f"has {len(headers)} headers, at most {MAX_IDENTITY_HEADERS}")
    aliases = config.claim_aliases
    read = {fold(source.header) for source in config.token.sources if source.header}
    first: dict[str, str] = {}
    for name, value in headers.items():
        message = check_header_name(name, read)
        if not message and fold(name) in first:
            message = f"servers that treat _ as - confuse it with {first[fold(name)]}"
        first.setdefault(fold(name), name)
        if message:
            yield Problem(path=(*path, name), message=message)
        yield from _check_value(value, (*path, name), aliases)


def check_header_name(name: str, read: set[str]) -> str:
    """Return why a header for the upstream cannot have this *name*, or an empty text. *read* are token sources."""
    if not HEADER_NAME.fullmatch(name):
        return "the name of a header must be in lower case, without spaces and colons"
    folded = fold(name)
    if folded in STRUCTURAL_HEADERS | _CREDENTIALS:
        return "this header frames the request or carries credentials, and must not be overwritten"
    if folded.startswith("x-envoy-"):
        return "names that begin with x-envoy- are reserved for Envoy"
    if folded.startswith("grpc-"):
        return "names that begin with grpc- are reserved for gRPC, and unknown ones make its clients fail"
    if folded in read:
        return "this header is a token source"
    try:
        separator_variants(name)
    except ValueError as error:
        return str(error)
    return ""


def _check_value(value: HeaderValue, path: KeyPath, aliases: frozenset[str]) -> Iterator[Problem]:
    kinds = [kind for kind in ("claim", "payload", "value") if getattr(value, kind) is not None]
    fields = value.model_fields_set
    if len(kinds) != 1:
        yield Problem(path=path, message="must have exactly one of claim, payload and value")
        return
    for key in ("join", "format"):
        if key in fields and value.claim is None:
            yield Problem(path=(*path, key), message="is only allowed with claim")
    if value.claim is not None:
        yield from check_claim(value.claim, path, aliases)
    if value.join is not None and value.format is not Format.TEXT:
        yield Problem(
            path=(*path, "join"),
            message=f"format {value.format} already includes lists",
            hint="leave out join or format",
        )
    if value.join is not None and not _JOIN.fullmatch(value.join):
        yield Problem(path=(*path, "join"), message="must be 1 to 8 characters of printable ASCII")
    if value.payload is Format.TEXT:
        yield Problem(path=(*path, "payload"), message="must be base64url or json")
    if value.value is not None and not _SAFE_VALUE.fullmatch(value.value):
        message = "must be printable ASCII without a space at either end, and not empty"
        yield Problem(path=(*path, "value"), message=message)


def check_metadata(config: Config) -> Iterator[Problem]:
    """Report claims that cannot be copied to Envoy's dynamic metadata."""
    aliases = config.claim_aliases
    for index, claim in enumerate(config.identity.metadata):
        yield from check_claim(claim, ("identity", "metadata", index), aliases)


def fold(name: str) -> str:
    """Return *name* as servers see it that treat `_` as `-`."""
    return name.lower().replace("_", "-")
