"""An identity provider on real HTTP that can misbehave in every way that a test has a use for."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from authz.demo.loopback import LoopbackServer, RawResponse, Request, Responder, Response, json_response
from authz.demo.signing import SigningKey

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/jwks"
LIFETIME_SECONDS = 300


class FakeIdp:
    """An issuer with discovery and JWKS on 127.0.0.1, good until it is changed; a context manager that serves.

    `published` are the JWKs as they are written, so a test may append whatever a broken issuer would. `answers`
    replaces what a path answers. `seen` has every request, in order. `tls` makes it HTTPS.
    """

    def __init__(
        self, *, algorithm: str = "ES256", tls: ssl.SSLContext | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.answers: dict[str, Responder] = {}
        self.seen: list[Request] = []
        self.published: list[object] = []
        self.cache_control: str | None = None
        self._algorithm = algorithm
        self._tls = tls
        self._now = now
        self._down = threading.Event()
        self._server = LoopbackServer(self._answer, tls=tls)
        self.url = self._server.url
        self.issuer = self.url
        self.discovery: dict[str, object] = {"issuer": self.issuer, "jwks_uri": f"{self.url}{JWKS}"}
        self.key = self.rotate()

    # Keys and tokens.

    def rotate(self, algorithm: str | None = None, *, kid: str | None = None) -> SigningKey:
        """Sign with a new key from now on, and publish it beside the others."""
        self.key = SigningKey.create(algorithm or self._algorithm, kid=kid)
        self.publish(self.key)
        return self.key

    def publish(self, key: SigningKey) -> None:
        """Add the public half of a key to the set."""
        self.published.append(key.public())

    def withdraw(self, kid: str) -> None:
        """Take a key out of the set."""
        self.published = [jwk for jwk in self.published if not (isinstance(jwk, dict) and jwk.get("kid") == kid)]

    def claims(self, **claims: object) -> dict[str, object]:
        """The claims of a good token, with these over them. A value of None leaves the claim out."""
        now = int(self._now())
        good = {"iss": self.issuer, "sub": "alice", "aud": "api", "iat": now, "exp": now + LIFETIME_SECONDS}
        return {name: value for name, value in {**good, **claims}.items() if value is not None}

    def mint(
        self, *, header: Mapping[str, object] | None = None, key: SigningKey | None = None, **claims: object
    ) -> str:
        """A token with these claims over good ones, by the current key or another, under any header."""
        return (key or self.key).sign(self.claims(**claims), header=header)

    # Requests.

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(request.path == path for request in self.seen)

    def _answer(self, request: Request) -> Response | RawResponse:
        self.seen.append(request)
        return self.answers.get(request.path, self.behave)(request)

    def behave(self, request: Request) -> Response:
        """The honest answer."""
        cache = () if self.cache_control is None else (("Cache-Control", self.cache_control),)
        match request.path:
            case "/.well-known/openid-configuration":
                return json_response(self.discovery, headers=cache)
            case "/jwks":
                return json_response({"keys": self.published}, headers=cache)
            case _:
                return Response(404)

    # Misbehaviour that lasts: each ends when the provider stops.

    def hang(self, request: Request) -> RawResponse:
        """Take the request, and never answer."""
        self._down.wait()
        return RawResponse(())

    def drip(self, *, seconds: float) -> Responder:
        """The honest answer, one byte in so many seconds, status line and headers included."""
        return lambda request: RawResponse(self._drip(self.behave(request), seconds))

    def _drip(self, response: Response, seconds: float) -> Iterator[bytes]:
        assert isinstance(response.body, bytes)
        head = f"HTTP/1.1 {response.status} OK\r\nContent-Length: {len(response.body)}\r\n\r\n".encode()
        for byte in head + response.body:
            yield bytes([byte])
            if self._down.wait(seconds):
                return

    # Life.

    def start(self) -> Self:
        """Serve; after `stop()`, on the same port again."""
        if self._down.is_set():
            self._down.clear()
            self._server = LoopbackServer(self._answer, port=self._server.port, tls=self._tls)
        self._server.start()
        return self

    def stop(self) -> None:
        """Be down: connections are closed, and new ones refused."""
        self._down.set()
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def redirect(to: str, *, status: int = 302) -> Responder:
    """Send the client elsewhere."""
    return lambda _: Response(status, (("Location", to),))


def fail(status: int = 500, *headers: tuple[str, str]) -> Responder:
    """An error status, say with Retry-After."""
    return lambda _: Response(status, headers, b"no")


def say(body: bytes, *, content_type: str = "application/json") -> Responder:
    """200 with a body that no honest provider would send."""
    return lambda _: Response(200, (("Content-Type", content_type),), body)


def html() -> Responder:
    """200 with the page of a captive portal."""
    return say(b"<!doctype html><title>Please log in</title>", content_type="text/html")


def brotli() -> Responder:
    """200 with an encoding that was not asked for, as a proxy may send it for a response that is large enough."""
    headers = ("Content-Type", "application/json"), ("Content-Encoding", "br")
    return lambda _: Response(200, headers, b"\x8b\x05\x80{}\x03")


def flood(megabytes: int) -> Responder:
    """200 with a body that goes on for so long, and does not say so beforehand."""
    piece = b'{"keys": [' + b" " * ((1 << 20) - 10)
    return lambda _: Response(200, (("Content-Type", "application/json"),), (piece for _ in range(megabytes)))
