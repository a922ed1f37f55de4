"""What the frameworks are asked: each route of theirs, in every spelling that some server may take for the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from authz.tooling.envoy_config.forwarded_headers import FORWARDED_HEADERS
from tests.frameworks.traffic import Ask

INTERN: Final = "intern.test"


@dataclass(frozen=True, slots=True)
class Route:
    """A handler that is not for everybody, and the request that it is written for."""

    name: str
    method: str
    path: str
    host: str = "public.test"

    @property
    def ask(self) -> Ask:
        return Ask(method=self.method, path=self.path, host=self.host)


ROUTES: Final = (
    Route("admin", "GET", "/admin"),
    Route("remove", "DELETE", "/admin"),
    Route("kiss", "GET", "/api/kiss"),
    Route("manage", "GET", "/manage/users"),
    Route("orders", "GET", "/orders/7"),
    Route("reports", "GET", "/reports"),
    Route("cache", "PURGE", "/cache"),
    Route("console", "GET", "/console", INTERN),
)
PAGE: Final = Route("page", "GET", "/public/page")

_BEFORE: Final = (
    *("/", "/./", "/%2e/", "/;/", "/;x=1/", "/%20", "/%09/", "/%00", "/%2f", "/%5c", "\\", "/x/..", "/x//..", "/.;"),
    *(
        "/public/..",
        "/public/%2e%2e",
        "/public/.%2e",
        "/public/..;",
        "/public/..;x=1",
        "/public/..%3b",
        "/public/..%2f",
    ),
    *("/public%2f..", "/public/%252e%252e", "/public/%c0%ae%c0%ae", "/public/..%20", "/public/..%00", "/public/..\\"),
    *("/public;/..", "/public/page/../..", "/public/%2f..", "/public#/..", "/public?/..", "/public%3f/..", "/public"),
    *("http://intern.test", "//intern.test", "/public/page;", "/public/page%23/../.."),
)
_AFTER: Final = (
    *("/", "//", "/x", "/x/y", "/.", "/..", "/./", "/%2e", "x", ",x", "-", "~", "+", ".", "*", "=", "@", "!", "'", "("),
    *(".json", ".html", "%2ejson", ";", ";x", ";x=1/", "/;x", "%3bx", "%20", "/%20", "%09", "%00", "%0a", "%0d", "%7f"),
    *("?", "?x", "?/..", "%3f", "%3fx", "#", "#x", "%23", "%2f", "/%2f", "%5c", "\\", "%25", "%2500", "%c2%a0"),
    *("%e2%80%8b", "%ef%bc%8f", "%c0%af", "|", "^", "[", "{", '"', "<", " ", "\x00", "\xa0"),
)
_LETTERS: Final = {
    "i": ("%C4%B0", "%C4%B1", "i%CC%87", "\xc4\xb0", "%69", "%2569", "%EF%BD%89", "\xef\xbd\x89"),
    "s": ("%C5%BF", "%73", "%53", "\xc5\xbf", "%E1%BA%9E"),
    "k": ("%E2%84%AA", "%6b", "%4B", "%4b", "%256b"),
    "a": ("%61", "%41", "%C3%A5", "%E2%84%AB", "%2561", "%%36%31"),
    "o": ("%6f", "%4F", "%C2%BA"),
    "e": ("%65", "%45", "%C3%89"),
    "/": ("%2f", "%2F", "%252f", "%5c", "\\", "//", "/./", "/;/", "/%20/", "%c0%af", "%ef%bc%8f"),
}
_METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PURGE", "TRACE", "QUERY", "FOO")
_HOSTS: Final = (
    *(INTERN, "INTERN.test", "intern.test.", "intern.test:80", "intern.test:99999", "intern.test:", "x.intern.test"),
    *("intern.test,public.test", "public.test,intern.test", "x@intern.test", "intern.test%00", "intern.test#", "[::1]"),
)
_IN_FULL: Final = {"kiss", "manage", "orders"}
_CLAIMED: Final = {"remove", "manage", "console"}
_OTHER_CLAIMS: Final = (
    *(
        "script_name",
        "path_info",
        "x-script-name",
        "request_method",
        "x_forwarded_host",
        "x_original_url",
        "x-original-method",
    ),
    *("x-http-host-override", "host_override", "x-method", "x-replaced-path", "x-envoy-original-path"),
)
_FORM: Final = ("content-type", "application/x-www-form-urlencoded")


def _cases(path: str) -> tuple[str, ...]:
    head, _, last = path.rpartition("/")
    return path.upper(), path.title(), f"{head}/{last.upper()}", f"{head.upper()}/{last}", path[:-1] + path[-1].upper()


def spell(path: str) -> Iterator[str]:
    """Yield spellings of *path*, itself the first."""
    yield path
    yield from _cases(path)
    for start in _BEFORE:
        yield f"{start}{path}"
    for end in _AFTER:
        yield f"{path}{end}"
    for letter, others in _LETTERS.items():
        for other in others:
            yield path[0] + path[1:].replace(letter, other)
            yield path[0] + path[1:].upper().replace(letter.upper(), other)
    for start, end in product(_BEFORE[:4], _AFTER[:6]):
        yield f"{start}{path.upper()}{end}"
    parent = path.rpartition("/")[0]
    yield from (f"{parent}{end}" for end in _AFTER if parent)


def _by_other_methods(route: Route) -> Iterator[Ask]:
    own = route.method
    for method in (*_METHODS, own.lower(), own.title(), own[:-1] + own[-1].lower(), f"{own}X"):
        for path in (route.path, route.path.upper()):
            yield replace(route.ask, method=method, path=path)


def _overridden(route: Route) -> Iterator[Ask]:
    """Another method, path or host, as parameters and headers claim it."""
    for method, name in product(("POST", "GET"), ("_method", "_METHOD", "x-http-method-override")):
        yield Ask(method=method, path=f"{route.path}?{name}={route.method}")
    for value in (route.method, route.method.lower()):
        yield Ask(method="POST", path=route.path, headers=(_FORM,), body=f"_method={value}".encode())
    for name in (*FORWARDED_HEADERS, *_OTHER_CLAIMS):
        value = (
            f"host={INTERN}" if name == "forwarded" else INTERN if "host" in name or "server" in name else route.path
        )
        value = route.method if "method" in name else "/public" if "script" in name else value
        for method, path in (("GET", "/public/page"), ("POST", route.path), (route.method, f"/public{route.path}")):
            yield Ask(method=method, path=path, headers=((name, value),))
    yield from (Ask(method=route.method, path=route.path, headers=((name, INTERN),)) for name in FORWARDED_HEADERS)
    yield from (Ask(method=route.method, path=route.path, host=host) for host in _HOSTS)


def requests() -> list[Ask]:
    """Return all of them, none twice, the page first, and last those for which Envoy closes an HTTP/2 connection."""
    asks = [PAGE.ask]
    for route in ROUTES:
        asks += [route.ask, *_by_other_methods(route)]
        paths = (
            spell(route.path)
            if route.name in _IN_FULL
            else (*_cases(route.path), *map(route.path.__add__, _AFTER[:24]))
        )
        asks += [replace(route.ask, path=path) for path in paths]
        asks += _overridden(route) if route.name in _CLAIMED else ()
    return sorted(dict.fromkeys(asks), key=_closes_http2)


def _closes_http2(ask: Ask) -> bool:
    """Tell whether Envoy holds the path or the host for malformed, and closes the connection."""
    return ask.path[0] != "/" or not {" ", "\x00"}.isdisjoint(ask.path) or not {"@", "#"}.isdisjoint(ask.host)
