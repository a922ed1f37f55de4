"""Headers by which a client claims another host, path or method than those that the decision was based on.

Some servers believe them: Fiber, and Spring Boot in a pod, take X-Forwarded-Host by default, IIS and Zend
X-Original-URL and X-Rewrite-URL; method overrides run a DELETE that was allowed as a GET; gunicorn cuts SCRIPT_NAME off
the path if its peer is on loopback, so that `/public/admin` is `/admin`. Envoy neither sets nor reads any of them by
default.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

FORWARDED_HEADERS: Final = (
    *("forwarded", "x-forwarded-host", "x-forwarded-server", "x-host", "x-original-host"),
    *("x-forwarded-path", "x-forwarded-prefix", "x-forwarded-uri", "x-original-uri", "x-original-url", "x-rewrite-url"),
    "script_name",
    *("x-forwarded-method", "x-http-method", "x-http-method-override", "x-method-override"),
)
"""In the order host (RFC 7239 among them), path, method."""


def forwarded_headers_to_remove(*, kept: Iterable[str]) -> tuple[str, ...]:
    """Return the headers to remove from every request: all but the *kept* ones."""
    kept_names = frozenset(name.lower() for name in kept)
    return tuple(name for name in FORWARDED_HEADERS if name not in kept_names)
