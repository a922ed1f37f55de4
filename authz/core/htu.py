"""Compare the URL that a proof names with the one that was asked for (RFC 9449 section 4.3, check 9).

Clients sign what their HTTP library made of the URL, or what their caller wrote, and Envoy shows what it normalized:
both sides are brought to one form first (RFC 3986 sections 6.2.2 and 6.2.3).
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import quote, unquote

_DEFAULT_PORT: Final = {"http": "80", "https": "443"}
_MAX_HOST_CHARS: Final = 255
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f\\]")  # servers interpret them differently, and no client sends them
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]*))?")
_ASCII_HOST: Final = re.compile(r"[a-z0-9._-]+")
_DEVIATIONS: Final = re.compile("[ßς\u200c\u200d]")  # IDNA 2003 and 2008 make two hosts of each
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_KEPT_IN_PATH: Final = "/!$&'()*+,;=:@%"  # beside the unreserved characters (RFC 3986 section 3.3)


def is_same_url(signed: str, requested: str) -> bool:
    """Return whether two http or https URLs name the same resource, apart from query and fragment."""
    normal = normalize_htu(signed)
    if normal is None:
        return False
    return signed == requested or normal == normalize_htu(requested)  # most clients write it as we do


def normalize_htu(url: str) -> str | None:
    """Return an http or https URL in normal form, without user, query and fragment; None if it is not such a URL.

    The scheme and the host are in lower case (IDNA 2003; IPv6 in its shortest form), and a default port is dropped. In
    the path, which is at least `/`, unreserved characters are decoded and others encoded, dot segments are resolved and
    slashes merged, as Envoy does it. An encoded slash stays, and so does a slash at the end.
    """
    if _FORBIDDEN.search(url):
        return None
    scheme, _, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    scheme = scheme.lower()
    authority, _, path = rest.partition("/")
    match = _AUTHORITY.fullmatch(authority.rpartition("@")[2])
    if scheme not in _DEFAULT_PORT or match is None:
        return None
    try:
        host, path = _normalize_host(match[1]), _normalize_path(path)
    except ValueError:  # UnicodeError is one
        return None
    port = "" if match[2] in (None, "", _DEFAULT_PORT[scheme]) else f":{match[2]}"
    return f"{scheme}://{host}{port}{path}"


def _normalize_host(host: str) -> str:
    """Raises ValueError."""
    if host.startswith("["):
        return f"[{IPv6Address(host[1:-1]).compressed}]"
    host = unquote(host, errors="strict").lower()
    if len(host) > _MAX_HOST_CHARS or _DEVIATIONS.search(host):
        raise ValueError("host")
    if not host.isascii():
        host = host.encode("idna").decode()
    if not _ASCII_HOST.fullmatch(host):
        raise ValueError("host")
    return host


def _normalize_path(path: str) -> str:
    """Raises UnicodeError."""
    normal: list[str] = []
    segments = quote(_ESCAPE.sub(_normalize_escape, path), safe=_KEPT_IN_PATH).split("/")
    for segment in segments:
        if segment == "..":
            del normal[-1:]
        elif segment != ".":
            normal.append(segment)
    if segments[-1] in (".", ".."):
        normal.append("")
    return re.sub("//+", "/", "/" + "/".join(normal))


def _normalize_escape(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in _UNRESERVED else escape[0].upper()
