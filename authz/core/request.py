"""The request as Envoy describes it, and its canonical path and host.

Rules of this file:
1. Only the attributes from Envoy are used. Headers such as x-original-url or x-http-method-override are never read.
2. A path has one canonical form (RFC 3986 section 6.2.2). Paths that servers are known to interpret differently are
   rejected.
3. A registered method must be in upper case: some servers treat `delete` as DELETE, others as another method.
4. Three encodings that some applications need (`%2F`, `;`, `//`) are recorded, and rejected unless a rule accepts them;
   then they are data within one segment and do not separate segments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from authz.core.reasons import Reason, Rejected
from authz.core.record import kw_record, record

MAX_HEADERS: Final = 1000
MAX_PATH_CHARS: Final = 16_384  # without the query
MAX_QUERY_CHARS: Final = 65_536  # Envoy's default limit is 60 KiB for all headers of a request
MAX_PATH_MARKS: Final = 1024  # slashes and escapes in a path
MAX_HOST_CHARS: Final = 255
_HOST_CACHE_SIZE: Final = 256  # entries


@kw_record
class Request:
    """One HTTP request, as untrusted text from `CheckRequest.attributes`.

    *path* includes the query. Names in *headers* are lower case; repeated fields are joined by commas. *certificate* is
    the peer's, URL-encoded PEM (`source.certificate`). *context* is set by Envoy's operator per route, never by a
    client.
    """

    method: str = ""
    host: str = ""
    path: str = field(default="", repr=False)
    scheme: str = ""
    protocol: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    context: Mapping[str, str] = field(default_factory=dict)
    source_address: str = ""
    certificate: str = field(default="", repr=False)


def join_headers(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the values of *fields* by lower-case name; values of repeated fields are joined in their order.

    The separator is a comma (RFC 9110 section 5.3), for cookies a semicolon (RFC 9113 section 8.2.3).
    """
    headers: dict[str, list[str]] = {}
    for name, text in fields:
        headers.setdefault(name.lower(), []).append(text)
    return {name: ("; " if name == "cookie" else ",").join(texts) for name, texts in headers.items()}


class AmbiguousEncoding(StrEnum):
    """An encoding in paths that servers interpret differently, and that a rule may accept as data."""

    ENCODED_SLASH = "encoded_slash"
    SEMICOLON = "semicolon"
    DOUBLE_SLASH = "double_slash"


@record
class Path:
    """A canonical path, its percent-decoded *segments* without a trailing empty one, and its ambiguous *encodings*."""

    text: str
    segments: tuple[str, ...]
    encodings: frozenset[AmbiguousEncoding]


@record
class Target:
    """Method, host and path of a request in canonical form; *host* is empty if the request has none."""

    method: str
    host: str
    path: Path


def parse_target(request: Request) -> Target:
    """Read method, host and path of a well-formed request.

    Raises Rejected: REQUEST_MALFORMED, PATH_AMBIGUOUS.
    """
    if not request.path:
        raise Rejected(Reason.REQUEST_MALFORMED, "no path")
    path, _, query = request.path.partition("?")
    if len(path) > MAX_PATH_CHARS:
        raise Rejected(Reason.REQUEST_MALFORMED, f"path longer than {MAX_PATH_CHARS} characters")
    if len(query) > MAX_QUERY_CHARS:
        raise Rejected(Reason.REQUEST_MALFORMED, f"query longer than {MAX_QUERY_CHARS} characters")
    if len(request.headers) > MAX_HEADERS or "" in request.headers:
        raise Rejected(Reason.REQUEST_MALFORMED, f"more than {MAX_HEADERS} headers, or one without a name")
    if request.method not in REGISTERED_METHODS:
        if not _METHOD.fullmatch(request.method):
            raise Rejected(Reason.REQUEST_MALFORMED, "method is not a token")
        if request.method.upper() in REGISTERED_METHODS:
            raise Rejected(Reason.REQUEST_MALFORMED, "method is a registered one, but not in upper case")
    # gRPC's own ext_authz filter sends no host (gRFC A92): then only rules without `hosts` match.
    host = canonical_host(request.host) if request.host else ""
    if path.count("/") + path.count("%") > MAX_PATH_MARKS:
        raise Rejected(Reason.REQUEST_MALFORMED, f"path has more than {MAX_PATH_MARKS} slashes and escapes")
    return Target(request.method, host, parse_path(path))


_METHOD: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # RFC 9110 section 9.1
# The HTTP Method Registry (RFC 9110 section 16.1.1; https://www.iana.org/assignments/http-methods), and QUERY, whose
# registration is pending.
REGISTERED_METHODS: Final = frozenset(
    """
    ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR
    MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PRI PROPFIND PROPPATCH PUT QUERY REBIND REPORT
    SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL
    """.split()  # noqa: SIM905 - a list would have forty lines
)

_HOST: Final = re.compile(r"([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]{2,45}\])\.?(?::[0-9]{1,5})?")


@lru_cache(maxsize=_HOST_CACHE_SIZE)
def canonical_host(raw: str) -> str:
    """Return *raw* (`:authority`) in lower case, without port and trailing dot.

    Raises Rejected(REQUEST_MALFORMED) for user information, lists, empty labels and anything else that is not a host.
    """
    match = _HOST.fullmatch(raw.lower()) if raw.isascii() and len(raw) <= MAX_HOST_CHARS else None
    if match is None:
        raise Rejected(Reason.REQUEST_MALFORMED, "host is not a host name or address")
    return match[1]


def canonical_path(raw: str) -> str:
    """Return the canonical form of *raw*, a path without its query.

    Two paths have the same form if and only if they are equivalent by RFC 3986 section 6.2.2. The function is
    idempotent.

    Raises Rejected(PATH_AMBIGUOUS) if servers are known to interpret *raw* differently.
    """
    path = parse_path(raw)
    reject_ambiguous(path, accepted=frozenset())
    return path.text


def reject_ambiguous(path: Path, *, accepted: frozenset[AmbiguousEncoding]) -> None:
    """Reject a path with encodings other than the *accepted* ones. Raises Rejected(PATH_AMBIGUOUS)."""
    rejected = path.encodings - accepted
    if rejected:
        raise Rejected(Reason.PATH_AMBIGUOUS, f"path has {', '.join(sorted(rejected))}")


_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)*/?")
# pchar of RFC 3986 section 3.3, slash, semicolon (a rule may accept it), and six characters that browsers and curl do
# not encode and that all servers treat as data.
_ALLOWED: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@/;%\[\]{}|^-]*")
_ESCAPE: Final = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_DOUBLE_ESCAPE: Final = re.compile(r"%25[0-9A-Fa-f]{2}")
# Some servers remove `;…` or spaces before they resolve dot segments: `/..;/admin`, `/..%20/admin`.
_DOT_SEGMENT: Final = re.compile(r"(?:%20)*\.{1,2}(?:%20)*(?:(?:;|%3B).*)?")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NO_ENCODINGS: Final[frozenset[AmbiguousEncoding]] = frozenset()


def parse_path(raw: str) -> Path:
    """Parse *raw*, a path without its query; encodings that a rule may accept are recorded, not rejected.

    Raises Rejected(PATH_AMBIGUOUS).
    """
    if _PLAIN.fullmatch(raw) and raw:
        return Path(raw, tuple(raw.strip("/").split("/")) if raw != "/" else (), _NO_ENCODINGS)
    if not raw.startswith("/"):
        raise _ambiguous("path does not begin with a slash")
    if not _ALLOWED.fullmatch(raw):
        # Among these: backslash, fragment, control characters, spaces, bytes outside ASCII.
        raise _ambiguous("path has a character that must be percent-encoded")
    text = raw
    for escape in set(_ESCAPE.findall(text)):  # each % starts exactly one match
        text = text.replace(escape, _normalize_escape(escape))
    if _DOUBLE_ESCAPE.search(text):
        raise _ambiguous("path is percent-encoded twice")
    encodings = set()
    if "%2F" in text:
        encodings.add(AmbiguousEncoding.ENCODED_SLASH)
    if ";" in text or "%3B" in text:  # some servers decode before they look for `;`
        encodings.add(AmbiguousEncoding.SEMICOLON)
    if "//" in text:
        encodings.add(AmbiguousEncoding.DOUBLE_SLASH)
    for segment in text.replace("%2F", "/").split("/"):
        if _DOT_SEGMENT.fullmatch(segment):
            raise _ambiguous("path has a dot segment")
    inner = text[1:].removesuffix("/")
    try:
        segments = tuple(unquote(segment, errors="strict") for segment in inner.split("/"))
    except UnicodeDecodeError:
        # A lenient decoder turns overlong forms such as %C0%AE into a dot or a slash.
        raise _ambiguous("path is not UTF-8 when decoded") from None
    return Path(text, segments, frozenset(encodings))


def _normalize_escape(escape: str) -> str:
    if escape == "%":
        raise _ambiguous("path has an incomplete percent-encoding")
    char = chr(int(escape[1:], 16))
    if char in _UNRESERVED:
        return char
    if char == "\\" or char < " " or char == "\x7f":
        raise _ambiguous("path has an encoded backslash or control character")
    return escape.upper()


def _ambiguous(detail: str) -> Rejected:
    return Rejected(Reason.PATH_AMBIGUOUS, detail)
