"""Proves authz.core.same_origin."""

from __future__ import annotations

import pytest

from authz.core.reasons import Reason, Rejected
from authz.core.same_origin import require_same_origin
from authz.core.token import CookieSource, HeaderSource, QuerySource
from tests.fixtures import ask

COOKIE = CookieSource("access_token")
SAME = "https://api.test"


def passes(host: str = "api.test", scheme: str = "https", method: str = "POST", **headers: str) -> bool:
    """Tell whether a request with a cookie token and these headers is let through."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        require_same_origin(ask(method=method, host=host, scheme=scheme, headers=named), COOKIE)
    except Rejected as rejected:
        if rejected.reason is not Reason.POLICY_DENIED:
            raise
        return False
    return True


@pytest.mark.parametrize("source", [HeaderSource("authorization", "Bearer"), QuerySource("access_token")])
def test_only_cookies_need_proof(source: HeaderSource | QuerySource) -> None:
    """No browser sends a header or a query unasked."""
    require_same_origin(ask(method="POST"), source)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_methods_need_no_proof(method: str) -> None:
    """A safe method changes nothing (RFC 9110 section 9.2.1), whatever made the browser send it."""
    assert passes(method=method, sec_fetch_site="cross-site", origin="https://evil.test")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "PROPFIND"])
def test_every_other_method_needs_proof(method: str) -> None:
    """Methods that are not known to be safe need proof, and get through with it."""
    assert not passes(method=method)
    assert passes(method=method, sec_fetch_site="same-origin")


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket"])
def test_websocket_is_no_safe_get(upgrade: str) -> None:
    """A WebSocket of another site would speak with the user's cookies."""
    assert not passes(method="GET", upgrade=upgrade)
    assert not passes(method="GET", upgrade=upgrade, origin="https://evil.test")
    assert passes(method="GET", upgrade=upgrade, origin=SAME)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "", "Same-Origin", "same-origin,same-origin"])
def test_other_sites(site: str) -> None:
    """Only same-origin is the same origin: a sibling host is not, and Origin cannot outvote it."""
    assert not passes(sec_fetch_site=site)
    assert not passes(sec_fetch_site=site, origin=SAME)


ORIGINS: dict[str, tuple[str, str, str, bool]] = {
    "same": ("api.test", "https", SAME, True),
    "case-does-not-count": ("API.test", "https", "https://Api.Test", True),
    "default-port-of-https": ("api.test:443", "https", SAME, True),
    "default-port-of-http": ("api.test:80", "http", "http://api.test", True),
    "default-port-in-the-origin": ("api.test", "https", "https://api.test:443", True),
    "other-port-on-both": ("api.test:8443", "https", "https://api.test:8443", True),
    "http-on-both": ("api.test", "http", "http://api.test", True),
    "https-outside-http-inside": ("api.test", "http", SAME, True),
    "ipv6": ("[::1]:8443", "https", "https://[::1]:8443", True),
    "http-for-https": ("api.test", "https", "http://api.test", False),
    "other-port": ("api.test", "https", "https://api.test:8443", False),
    "default-port-of-the-other-scheme": ("api.test:443", "http", "http://api.test", False),
    "other-host": ("api.test", "https", "https://evil.test", False),
    "host-below": ("api.test", "https", "https://api.test.evil.test", False),
    "host-in-the-user": ("api.test", "https", "https://api.test@evil.test", False),
    "null": ("api.test", "https", "null", False),
    "empty": ("api.test", "https", "", False),
    "no-scheme": ("api.test", "https", "api.test", False),
    "other-scheme": ("api.test", "https", "chrome-extension://api.test", False),
    "list": ("api.test", "https", "https://api.test,https://evil.test", False),
    "list-with-a-space": ("api.test", "https", "https://api.test https://evil.test", False),
    "port-no-number": ("api.test", "https", "https://api.test:x", False),
    "port-too-large": ("api.test", "https", "https://api.test:99999", False),
    "own-port-too-large": ("api.test:99999", "https", SAME, False),
    "no-host-on-either-side": ("", "", "https:", False),
    "broken-ipv6": ("api.test", "https", "https://[::1", False),
}


@pytest.mark.parametrize(("host", "scheme", "origin", "same"), ORIGINS.values(), ids=ORIGINS)
def test_origin(host: str, scheme: str, origin: str, same: bool) -> None:  # noqa: FBT001 - a column of the table
    """Scheme, host and port decide; Envoy may see http where the browser saw https, never the reverse."""
    assert passes(host, scheme, origin=origin) is same
    assert passes(host, scheme, origin=origin, sec_fetch_site="same-origin") is same
