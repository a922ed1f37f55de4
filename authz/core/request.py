"""The request as Envoy describes it, and the canonical path and host that are evaluated.

Rules of this file:
1. Only Envoy's own attributes count. Headers that claim another path, host or method are never read.
2. A path has one canonical form (RFC 3986 section 6.2.2) or none: paths that servers are known to read differently are
   rejected.
3. A registered method is written in upper case: some servers read `delete` as DELETE, others as a method of its own.
4. Three encodings that some applications need (`%2F`, `;`, `//`) are recorded, and rejected unless a rule accepts them;
   then they are data inside one segment and never structure.
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
MAX_QUERY_CHARS: Final = 65_536  # more than Envoy takes by default, 60 KiB for all headers of a request
MAX_PATH_MARKS: Final = 1024  # slashes and escapes in a path
MAX_HOST_CHARS: Final = 255
_HOSTS_KEPT: Final = 256  # readings of a host


@kw_record
class Request:
    """One HTTP request, as untrusted text from `CheckRequest.attributes`.

    *path* includes the query. Names in *headers* are lower case, repeated fields joined by a comma. *certificate* is
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
    """Return the values of *fields* by lower-case name; those of one name are one list, in their order.

    RFC 9110 section 5.3; cookies alone are joined by a semicolon (RFC 9113 section 8.2.3).
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
    """A canonical path, its percent-decoded *segments* (a trailing slash adds none), and its ambiguous *encodings*."""

    text: str
    segments: tuple[str, ...]
    encodings: frozenset[AmbiguousEncoding]


@record
class Target:
    """What a request asks for, in the form that rules are matched against; *host* is empty if none is named."""

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
    if not _METHOD.fullmatch(request.method):
        raise Rejected(Reason.REQUEST_MALFORMED, "method is not a token")
    if request.method not in REGISTERED_METHODS and request.method.upper() in REGISTERED_METHODS:
        raise Rejected(Reason.REQUEST_MALFORMED, "method is a registered one, but not in upper case")
    # gRPC's own filter names no host (gRFC A92): no rule for a host matches then.
    host = canonical_host(request.host) if request.host else ""
    if path.count("/") + path.count("%") > MAX_PATH_MARKS:
        raise Rejected(Reason.REQUEST_MALFORMED, f"path has more than {MAX_PATH_MARKS} slashes and escapes")
    return Target(request.method, host, parse_path(path))


_METHOD: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # RFC 9110 section 9.1
# The HTTP Method Registry (RFC 9110 section 16.1.1; https://www.iana.org/assignments/http-methods), and QUERY, which is
# about to be in it.
REGISTERED_METHODS: Final = frozenset(
    """
    ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR
    MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PRI PROPFIND PROPPATCH PUT QUERY REBIND REPORT
    SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL
    """.split()  # noqa: SIM905 - a list would be forty lines
)

_HOST: Final = re.compile(r"([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]{2,45}\])\.?(?::[0-9]{1,5})?")


@lru_cache(maxsize=_HOSTS_KEPT)
def canonical_host(raw: str) -> str:
    """Return *raw* (`:authority`) in lower case, without port and final dot.

    Raises Rejected(REQUEST_MALFORMED) for user information, lists, empty labels and anything else that is not a host.
    """
    match = _HOST.fullmatch(raw.lower()) if raw.isascii() and len(raw) <= MAX_HOST_CHARS else None
    if match is None:
        raise Rejected(Reason.REQUEST_MALFORMED, "host is not a host name or address")
    return match[1]


def canonical_path(raw: str) -> str:
    """Return the canonical form of *raw*, a path without its query.

    Two paths have the same form if and only if RFC 3986 section 6.2.2 calls them equivalent; the form is its own.

    Raises Rejected(PATH_AMBIGUOUS) if servers are known to read *raw* in more than one way.
    """
    path = parse_path(raw)
    reject_ambiguous(path, accepted=frozenset())
    return path.text


def reject_ambiguous(path: Path, *, accepted: frozenset[AmbiguousEncoding]) -> None:
    """Reject a path with encodings other than the *accepted* ones. Raises Rejected(PATH_AMBIGUOUS)."""
    odd = path.encodings - accepted
    if odd:
        raise Rejected(Reason.PATH_AMBIGUOUS, f"path has {', '.join(sorted(odd))}")


_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)*/?")
# pchar of RFC 3986 section 3.3, the slash, the semicolon that a rule may accept, and six characters that browsers and
# curl send as they are and every server takes as data.
_ALLOWED: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@/;%\[\]{}|^-]*")
_ESCAPE: Final = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_DOUBLE_ESCAPE: Final = re.compile(r"%25[0-9A-Fa-f]{2}")
# Some servers drop `;…` before they resolve dots, or spaces: `/..;/admin`, `/..%20/admin`.
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
    for escape in set(_ESCAPE.findall(text)):  # each % begins one: none is ever found across two of them
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
        # Overlong forms such as %C0%AE are a dot or a slash to a careless decoder.
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
