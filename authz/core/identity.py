"""Identify the caller to the upstream, in headers that no client can forge.

Rules of this file:
1. Every configured identity header is set or removed on every allowed request, for every caller.
2. Servers that treat `_` as `-` (CGI and its successors) accept several forms of one name. All of them are set or
   removed, because Envoy may not send us the headers of the client.
3. No name is both set and removed: Envoy sets first and removes last.
4. A value is visible ASCII, with spaces only inside. An empty value removes the header, because Envoy cannot set an
   empty one.
5. The header of the token that the sidecar mints is one of them: without a token it is removed.
6. A request whose `connection` header names an identity header is rejected: a proxy would drop that header.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, assert_never
from urllib.parse import quote

from authz.core import base64url
from authz.core.claims import ClaimPath, Claims
from authz.core.reasons import Reason, Rejected
from authz.core.record import record
from authz.core.request import Request

MAX_SEPARATORS: Final = 5  # `-` and `_` in a name: 32 forms
MAX_CONNECTION_CHARS: Final = 1024
MAX_HEADERS_BYTES: Final = 8192  # names and values of all injected headers together

_UNESCAPED: Final = "".join(char for char in map(chr, range(0x20, 0x7F)) if char != "%")
_REMOVAL_CACHE_SIZE: Final = 64  # entries: one for each combination of headers with a value


class UnsafeValues(StrEnum):
    """What to do with a value that a header cannot contain."""

    DENY = "deny"
    ENCODE = "encode"


class Format(StrEnum):
    """The format of a claim in a header: a scalar as text, or any value as JSON or in base64url."""

    TEXT = "text"
    JSON = "json"
    BASE64URL = "base64url"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimHeader:
    """A header with the claim *name* at *path*; *join* is the separator for list elements."""

    header: str
    name: str
    path: ClaimPath
    format: Format = Format.TEXT
    join: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadHeader:
    """A header with the whole signed payload, in base64url or as JSON."""

    header: str
    format: Format = Format.BASE64URL


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantHeader:
    """A header with a fixed value, sent for every authenticated caller."""

    header: str
    value: str


HeaderRule = ClaimHeader | PayloadHeader | ConstantHeader


@record
class HeaderChanges:
    """Headers to overwrite, and names of headers to remove. No name is in both."""

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetadataClaim:
    """A claim that is sent to Envoy as dynamic metadata."""

    name: str
    path: ClaimPath


@record
class RenderedIdentity:
    """What *identity* sends of some claims: headers for the upstream, and *metadata* for Envoy."""

    identity: Identity
    headers: HeaderChanges
    metadata: Mapping[str, object]


class Identity:
    """The identity headers, and the claims that are sent to Envoy as dynamic metadata."""

    def __init__(
        self,
        headers: tuple[HeaderRule, ...] = (),
        *,
        metadata: tuple[MetadataClaim, ...] = (),
        unsafe_values: UnsafeValues = UnsafeValues.DENY,
        token_header: str | None = None,
    ) -> None:
        self._headers: Final = headers
        self._metadata: Final = metadata
        self._encode: Final = unsafe_values is UnsafeValues.ENCODE
        self._token_header: Final = token_header
        own = [*(rule.header for rule in headers), *([] if token_header is None else [token_header])]
        self._header_variants: Final = tuple(dict.fromkeys(itertools.chain.from_iterable(map(separator_variants, own))))
        self._names: Final = frozenset(self._header_variants)
        self.strip_all: Final = HeaderChanges(remove=self._header_variants)

    def reject_connection_nominated_headers(self, request: Request) -> None:
        """Reject a request whose `connection` names an identity header (RFC 9110 section 7.6.1).

        Envoy forwards `connection` with a WebSocket handshake, and the next proxy drops the headers that it names.

        Raises Rejected(REQUEST_MALFORMED).
        """
        nominated = request.headers.get("connection")
        if nominated is not None and len(nominated) > MAX_CONNECTION_CHARS:
            raise Rejected(Reason.REQUEST_MALFORMED, f"connection of more than {MAX_CONNECTION_CHARS} characters")
        if nominated is not None and not self._names.isdisjoint(
            option.strip(" \t").lower() for option in nominated.split(",")
        ):
            raise Rejected(Reason.REQUEST_MALFORMED, "connection names an identity header")

    def headers_for(self, claims: Claims) -> HeaderChanges:
        """Return the identity headers for *claims*, written once.

        Raises Rejected: HEADER_UNSAFE, CLAIMS_MALFORMED.
        """
        return self._render(claims).headers

    def metadata_for(self, claims: Claims) -> Mapping[str, object]:
        """Return the claims for Envoy's dynamic metadata, without absent ones. Raises Rejected, as `headers_for`."""
        return self._render(claims).metadata

    def _render(self, claims: Claims) -> RenderedIdentity:
        rendered = claims.rendered_identity
        if not isinstance(rendered, RenderedIdentity) or rendered.identity is not self:
            rendered = RenderedIdentity(self, self._write_headers(claims), self._write_metadata(claims))
            object.__setattr__(claims, "rendered_identity", rendered)
        return rendered

    def _write_headers(self, claims: Claims) -> HeaderChanges:
        if claims.subject is None:
            for path in self._claim_paths(claims):
                claims.check_subject(path)
        written: dict[str, str] = {}
        size = 0
        for rule in self._headers:
            value = self._write(rule, claims)
            if value:
                written[rule.header] = value
                size += len(rule.header) + len(value)
        if size > MAX_HEADERS_BYTES:
            raise Rejected(Reason.HEADER_UNSAFE, f"identity headers of {size} octets, at most {MAX_HEADERS_BYTES}")
        return HeaderChanges(tuple(written.items()), _names_except(tuple(written), self._header_variants))

    def add_token(self, headers: HeaderChanges, token: str) -> HeaderChanges:
        """Return *headers* with the *token* for the upstream: as a bearer token in `authorization`, bare elsewhere."""
        name = self._token_header
        if name is None:
            return headers
        value = f"Bearer {token}" if name == "authorization" else token
        index = headers.remove.index(name)  # no other rule writes this header, so it is to be removed
        return HeaderChanges((*headers.set, (name, value)), headers.remove[:index] + headers.remove[index + 1 :])

    def _write_metadata(self, claims: Claims) -> Mapping[str, object]:
        return {
            claim.name: value for claim in self._metadata if (value := claims.find(claim.name, claim.path)) is not None
        }

    def _claim_paths(self, claims: Claims) -> Iterator[ClaimPath]:
        """Yield the paths of all claims that are sent in a header or to Envoy."""
        for rule in self._headers:
            if isinstance(rule, ClaimHeader):
                yield claims.locate(rule.name, rule.path)
        for claim in self._metadata:
            yield claims.locate(claim.name, claim.path)

    def _write(self, rule: HeaderRule, claims: Claims) -> str:
        match rule:
            case ClaimHeader():
                value = claims.find(rule.name, rule.path)
                return "" if value is None else self._write_claim(rule, value)
            case ConstantHeader():
                return rule.value
            case PayloadHeader(format=Format.BASE64URL):
                return base64url.encode(claims.payload).decode()
            case PayloadHeader():
                return self._safe(_json(claims.members), rule.header)
            case _:
                assert_never(rule)

    def _write_claim(self, rule: ClaimHeader, value: object) -> str:
        if isinstance(value, str) and rule.format is Format.TEXT:  # most are
            return self._safe(value, rule.header)
        if rule.format is Format.BASE64URL:
            return base64url.encode((value if isinstance(value, str) else _json(value)).encode()).decode()
        if rule.format is Format.JSON:
            return self._safe(_json(value), rule.header)
        if isinstance(value, list) and rule.join is not None:
            return self._write_list(value, rule.header, rule.join)
        return self._safe(_scalar(value, rule.header), rule.header)

    def _write_list(self, items: list[object], header: str, join: str) -> str:
        """Join a list so that splitting at *join* returns exactly its elements."""
        texts = [self._safe(_scalar(item, header), header, escaped=join[0]) for item in items]
        written = join.join(texts)
        if not all(texts) or (texts and written.split(join) != texts):
            raise _unsafe(header, "a list element is empty or contains the separator")
        return written

    def _safe(self, text: str, header: str, *, escaped: str = "") -> str:
        """Return *text* as a header value; if unsafe values are encoded, *escaped* is encoded too."""
        if self._encode:
            # Recipients strip spaces at both ends (RFC 9110 section 5.5).
            inner = text.strip(" ")
            head = len(text) - len(text.lstrip(" "))
            encoded = _encode(inner, escaped)
            return "%20" * head + encoded + "%20" * (len(text) - head - len(inner))
        # Printable ASCII is 0x20 to 0x7E.
        if not (text.isascii() and text.isprintable()) or text[:1] == " " or text[-1:] == " ":
            raise _unsafe(header, "the value has characters that a header cannot contain")
        return text


def _encode(text: str, escaped: str) -> str:
    """Percent-encode unsafe characters, and *escaped*, which may be a character that urllib never encodes."""
    encoded = quote(text, safe=_UNESCAPED)
    return encoded.replace(escaped, f"%{ord(escaped):02X}") if escaped else encoded


def separator_variants(name: str) -> tuple[str, ...]:
    """Return *name* in every combination of `-` and `_`. Raises ValueError above MAX_SEPARATORS."""
    parts = name.replace("_", "-").split("-")
    if len(parts) - 1 > MAX_SEPARATORS:
        raise ValueError(f"{name} has {len(parts) - 1} separators, at most {MAX_SEPARATORS}")
    marks = itertools.product("-_", repeat=len(parts) - 1)
    return tuple("".join(itertools.chain(*zip(parts, (*choice, ""), strict=True))) for choice in marks)


@lru_cache(maxsize=_REMOVAL_CACHE_SIZE)
def _names_except(written: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in written)


def _scalar(value: object, header: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return _json(value)
    raise _unsafe(header, "the claim is a list or an object: configure join or format")


def _json(value: object | Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _unsafe(header: str, why: str) -> Rejected:
    return Rejected(Reason.HEADER_UNSAFE, f"{header}: {why}")
