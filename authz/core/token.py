"""Find the token of a request, and parse it as a compact JWS (RFC 7515 section 7.1) without verifying it.

Rules of this file:
1. The size is checked first.
2. Three segments of canonical base64url. JWE, JSON serialization and detached content are therefore rejected.
3. The header is a JSON object, parsed strictly. `crit` and `b64` (RFC 7797) are rejected with any value: no extension
   is supported.
4. `jwk`, `jku`, `x5u` and `x5c` of a header are never used (RFC 8725 section 3.10). `x5t` and `x5t#S256` select among
   the keys of the issuer, and are ignored if they are not strings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Final, assert_never

from authz.core import base64url
from authz.core.reasons import Reason, Rejected
from authz.core.record import record
from authz.core.request import Request, join_headers
from authz.core.strictjson import parse_object

MAX_TOKEN_BYTES: Final = 16_384
MAX_KID_CHARS: Final = 1024
MAX_CREDENTIALS: Final = 64  # parts between commas in one header
MAX_COOKIES: Final = 512
MAX_PARAMETERS: Final = 1024  # of a query
_HEADER_CACHE_SIZE: Final = 1024  # entries
_SCHEME_CACHE_SIZE: Final = 64  # entries
_MAX_CACHED_HEADER_BYTES: Final = 512  # of a header in base64url


@record
class UnverifiedToken:
    """A well-formed token before verification. None of its content is trusted until `KeySet.verify` succeeds.

    *parsed_claims* is cached here by `claims.check`: the claims under the rules of an issuer, independent of the time.
    """

    alg: str
    kid: str | None
    typ: str | None
    signing_input: bytes
    payload: bytes
    signature: bytes
    x5t: str | None = None
    x5t_s256: str | None = None
    parsed_claims: object = field(default=None, init=False, compare=False)
    _members: dict[str, object] | None = field(default=None, init=False, compare=False)
    _digest: bytes | None = field(default=None, init=False, compare=False)
    _signing_digest: str | None = field(default=None, init=False, compare=False)

    def __repr__(self) -> str:
        """Return the header only: the rest of a token is secret."""
        return f"UnverifiedToken(alg={self.alg!r}, kid={self.kid!r}, typ={self.typ!r})"

    @property
    def members(self) -> dict[str, object]:
        """The payload as a JSON object, parsed strictly and once. Raises Rejected(CLAIMS_MALFORMED)."""
        if self._members is not None:
            return self._members
        try:
            members = parse_object(self.payload)
        except ValueError as error:
            raise Rejected(Reason.CLAIMS_MALFORMED, f"payload: {_why(error)}") from None
        object.__setattr__(self, "_members", members)
        return members

    @property
    def digest(self) -> bytes:
        """The `digest_of` the token's text, computed once."""
        if self._digest is not None:
            return self._digest
        digest = sha256(b"%b.%b" % (self.signing_input, base64url.encode(self.signature))).digest()
        object.__setattr__(self, "_digest", digest)
        return digest

    @property
    def known_digest(self) -> bytes | None:
        """The `digest`, if it was computed already."""
        return self._digest

    @property
    def signing_digest(self) -> str:
        """The SHA-256 of the signing input, in hexadecimal, computed once: tokens may differ in signature only."""
        if self._signing_digest is not None:
            return self._signing_digest
        digest = sha256(self.signing_input).hexdigest()
        object.__setattr__(self, "_signing_digest", digest)
        return digest


def digest_of(text: str) -> bytes:
    """Return the SHA-256 of a token's *text*. It identifies the token, because base64url is canonical here."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def parse_token(
    text: str, /, *, max_bytes: int = MAX_TOKEN_BYTES, cached: bool = True, digest: bytes | None = None
) -> UnverifiedToken:
    """Parse *text* as a compact JWS of at most *max_bytes*; with *cached*, its parsed header is cached.

    *digest* is the `digest_of` the text, if it is known.

    Raises Rejected: TOKEN_TOO_LARGE, TOKEN_MALFORMED, HEADER_INVALID, CRIT_UNSUPPORTED.
    """
    if len(text) > max_bytes:
        raise Rejected(Reason.TOKEN_TOO_LARGE, f"token of {len(text)} characters, at most {max_bytes}")
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError:
        raise _malformed("token is not ASCII") from None
    segments = data.split(b".", 3)
    if len(segments) != 3 or not segments[0] or not segments[2]:
        raise _malformed("token is not three segments")
    header = segments[0]
    try:
        payload, signature = base64url.decode(segments[1]), base64url.decode(segments[2])
        # The tokens of an issuer usually have identical headers.
        read = _cached_header if cached and len(header) <= _MAX_CACHED_HEADER_BYTES else _read_header
        alg, kid, typ, x5t, x5t_s256 = read(header)
    except ValueError as error:
        raise _malformed(str(error)) from None
    if not payload:
        raise _malformed("content is detached")
    signing_input = data[: -len(segments[2]) - 1]
    token = UnverifiedToken(alg, kid, typ, signing_input, payload, signature, x5t, x5t_s256)
    if digest is not None:
        object.__setattr__(token, "_digest", digest)
    return token


def check_opaque(text: str, *, max_bytes: int = MAX_TOKEN_BYTES) -> None:
    """Reject an opaque token that is not a token68 (RFC 6750 section 2.1) of at most *max_bytes*.

    Raises Rejected: TOKEN_TOO_LARGE, TOKEN_MALFORMED.
    """
    if len(text) > max_bytes:
        raise Rejected(Reason.TOKEN_TOO_LARGE, f"token of {len(text)} characters, at most {max_bytes}")
    if not _TOKEN68.fullmatch(text):
        raise _malformed("token is neither a JWT nor a token68")


_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]++=*+")


def _read_header(segment: bytes) -> tuple[str, str | None, str | None, str | None, str | None]:
    """Return `alg`, `kid`, `typ`, `x5t` and `x5t#S256`; an empty `kid` counts as absent.

    Raises ValueError, and Rejected: HEADER_INVALID, CRIT_UNSUPPORTED.
    """
    header = base64url.decode(segment)
    try:
        members = parse_object(header)
    except ValueError as error:
        raise _header_invalid(_why(error)) from None
    alg, kid, typ = members.get("alg"), members.get("kid", _ABSENT), members.get("typ", _ABSENT)
    if not isinstance(alg, str) or not alg:
        raise _header_invalid("alg is not a string, or is empty")
    if kid is not _ABSENT and not (isinstance(kid, str) and len(kid) <= MAX_KID_CHARS):
        raise _header_invalid(f"kid is not a string of at most {MAX_KID_CHARS} characters")
    if typ is not _ABSENT and not isinstance(typ, str):
        raise _header_invalid("typ is not a string")
    if "crit" in members or "b64" in members:
        raise Rejected(Reason.CRIT_UNSUPPORTED, "no header extension is supported")
    x5t, x5t_s256 = members.get("x5t"), members.get("x5t#S256")
    return alg, _text(kid) or None, _text(typ), _text(x5t), _text(x5t_s256)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_cached_header: Final = lru_cache(maxsize=_HEADER_CACHE_SIZE)(_read_header)
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class HeaderSource:
    """A token in *header* (lower case) after *scheme*; if *scheme* is empty, the token is the whole value."""

    header: str
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class CookieSource:
    """A token in a cookie. Browsers send cookies automatically, so a same-origin check is required."""

    cookie: str


@dataclass(frozen=True, slots=True)
class QuerySource:
    """A token in the query. Insecure, because URLs are written to logs and histories (RFC 6750 section 5.3)."""

    parameter: str


Source = HeaderSource | CookieSource | QuerySource


@record
class FoundToken:
    """A token and its source."""

    text: str = field(repr=False)
    source: Source


@dataclass(frozen=True, slots=True)
class ValidToken:
    """A token that was found authentic and valid, with its *members*; not kept beyond the report of the decision."""

    text: str = field(repr=False)
    members: Mapping[str, object] = field(repr=False)


def find_token(request: Request, sources: tuple[Source, ...]) -> FoundToken | None:
    """Return the token of *request* in any of *sources*, or None if there is none.

    Raises Rejected: TOKEN_MULTIPLE, TOKEN_MALFORMED (no token after the scheme, or too many places to search).
    """
    tokens = [FoundToken(text, source) for source in sources for text in _tokens(request, source)]
    if len(tokens) > 1:
        raise Rejected(Reason.TOKEN_MULTIPLE, f"{len(tokens)} tokens in one request")
    return tokens[0] if tokens else None


def place_token(text: str, source: Source, request: Request) -> Request:
    """Return *request* with a token added at *source*."""
    match source:
        case HeaderSource(header, scheme):
            field = (header, f"{scheme} {text}".lstrip())
        case CookieSource(cookie):
            field = ("cookie", f"{cookie}={text}")
        case QuerySource(parameter):
            return replace(request, path=f"{request.path}{'&' if '?' in request.path else '?'}{parameter}={text}")
        case _:
            assert_never(source)
    return replace(request, headers=join_headers([*request.headers.items(), field]))


def _tokens(request: Request, source: Source) -> list[str]:
    match source:
        case HeaderSource():
            return _header_tokens(request.headers.get(source.header), source.scheme)
        case CookieSource():
            return [value for value in find_cookies(request, source.cookie) if value]
        case QuerySource():
            query = request.path.partition("?")[2]
            if query.count("&") >= MAX_PARAMETERS:
                raise _malformed(f"query with more than {MAX_PARAMETERS} parameters")
            pairs = (pair.partition("=") for pair in query.split("&"))
            return [value for parameter, _, value in pairs if parameter == source.parameter and value]
        case _:
            assert_never(source)


# Envoy joins repeated Authorization headers with commas. A scheme and a space after a comma start the next credentials.
_NEXT_CREDENTIALS: Final = re.compile(r",[ \t]*(?=[A-Za-z0-9!#$%&'*+.^_`|~-]+[ \t])")


def _header_tokens(value: str | None, scheme: str) -> list[str]:
    if not value:
        return []
    commas = value.count(",")
    if commas >= MAX_CREDENTIALS:
        raise _malformed(f"more than {MAX_CREDENTIALS} parts in one header")
    if not scheme:
        return value.split(",")
    if not commas:
        return [_after_scheme(value, scheme)] if has_scheme(value, scheme) else []
    credentials = _NEXT_CREDENTIALS.split(value)
    tokens = [text for text in credentials if has_scheme(text, scheme)]
    if tokens and len(credentials) > 1:
        raise Rejected(Reason.TOKEN_MULTIPLE, f"{len(credentials)} credentials in one header")
    return [_after_scheme(text, scheme) for text in tokens]


def has_scheme(credentials: str, scheme: str) -> bool:
    """Return whether *credentials* begin with *scheme*, in any letter case (RFC 9110 section 11.1)."""
    return _scheme(scheme).match(credentials) is not None


@lru_cache(maxsize=_SCHEME_CACHE_SIZE)
def _scheme(scheme: str) -> re.Pattern[str]:
    """Return the pattern of credentials with this *scheme*; schemes are configured."""
    return re.compile(rf"{re.escape(scheme)}(?![A-Za-z0-9!#$%&'*+.^_`|~-])", re.ASCII | re.IGNORECASE)


def _after_scheme(credentials: str, scheme: str) -> str:
    after = credentials[len(scheme) :]
    token = after.lstrip(" ")  # RFC 6750 section 2.1: one or more spaces
    if token == after or not token:
        raise _malformed(f"no token after {scheme}")
    return token


def find_cookies(request: Request, name: str) -> list[str]:
    """Return the values of the request's cookies of this *name*, in order (RFC 6265 section 4.2.1).

    Envoy joins two Cookie fields of HTTP/1.1 with a comma. No token contains commas: a cookie may begin after each.

    Raises Rejected(TOKEN_MALFORMED) if there are more than MAX_COOKIES.
    """
    header = request.headers.get("cookie", "")
    # Splitting at commas would be slow: other cookies may contain any number of them.
    matches = re.finditer(rf"(?:^|[;,])[ \t]*{re.escape(name)}=([^;,]*)", header)
    values = [match[1] for match in islice(matches, MAX_COOKIES)]
    if header.count(";") >= MAX_COOKIES or len(values) == MAX_COOKIES:
        raise _malformed(f"more than {MAX_COOKIES} cookies")
    return [value.rstrip(" \t").removeprefix('"').removesuffix('"') for value in values]


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.TOKEN_MALFORMED, detail)


def _header_invalid(detail: str) -> Rejected:
    return Rejected(Reason.HEADER_INVALID, f"header: {detail}")


def _why(error: ValueError) -> str:
    """Return the message of *error* without any input: codec errors quote it."""
    return "not UTF-8" if isinstance(error, UnicodeError) else str(error)
