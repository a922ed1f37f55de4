"""An identity provider over real HTTP: discovery, JWKS, a token endpoint, and keys that rotate while it runs.

Keys rotate periodically until the first manual rotation, which no periodic one may disturb.

It issues a token to any caller, for any subject and scope. It listens on loopback only, and is not for production.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from authz.demo.loopback import LoopbackServer, Request, Response, json_response
from authz.demo.signing import SigningKey

PUBLISHED_KEYS = 2  # the signing key, and the previous one, so that tokens survive a rotation
LIFETIME_SECONDS = 300
JWKS_MAX_AGE_SECONDS = 300


class Provider:
    """An OpenID provider on 127.0.0.1; a context manager that serves, and rotates its keys every `rotate_every` s.

    Each new key uses the next of `algorithms`, in a cycle. `now` is wall-clock seconds.
    """

    def __init__(
        self,
        *,
        audience: str,
        algorithms: Sequence[str] = ("ES256", "RS256"),
        rotate_every: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._audience = audience
        self._algorithms = itertools.cycle(algorithms)
        self._rotate_every = rotate_every
        self._now = now
        self._keys: tuple[SigningKey, ...] = ()
        self.rotate()
        self._server = LoopbackServer(self.answer)
        self._stopped = threading.Event()  # set when the periodic rotation must end
        self._rotating = threading.Lock()
        self._rotation = threading.Thread(target=self._keep_rotating, daemon=True)
        self.issuer = self._server.url

    @property
    def kids(self) -> list[str]:
        """The published key ids; the last one signs."""
        return [key.kid for key in self._keys]

    def rotate(self) -> None:
        """Sign with a new key from now on; the previous one stays published until the next rotation."""
        key = SigningKey.create(next(self._algorithms))
        self._keys = (*self._keys, key)[-PUBLISHED_KEYS:]

    def mint(self, claims: Mapping[str, object]) -> str:
        """Return an access token (RFC 9068) with these claims in addition to, or instead of, the usual ones."""
        now = int(self._now())
        usual = {
            "iss": self.issuer,
            "sub": "alice",
            "aud": self._audience,
            "client_id": "demo",
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "jti": secrets.token_hex(8),
        }
        return self._keys[-1].sign({**usual, **claims})

    def answer(self, request: Request) -> Response:
        """Route one request."""
        match request.method, request.path:
            case "GET", "/.well-known/openid-configuration":
                return json_response(self._discovery())
            case "GET", "/jwks":
                cache = ("Cache-Control", f"max-age={JWKS_MAX_AGE_SECONDS}")
                return json_response({"keys": [key.public() for key in self._keys]}, headers=(cache,))
            case "GET" | "POST", "/token":
                return self._token(request)
            case "POST", "/rotate":
                with self._rotating:
                    self._stopped.set()
                    self.rotate()
                return json_response({"kids": self.kids})
            case _:
                return json_response({"error": "not_found"}, status=404)

    def _discovery(self) -> dict[str, object]:
        """Answer discovery (OpenID Connect Discovery 1.0 section 3, RFC 8414)."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint": f"{self.issuer}/token",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        }

    def _token(self, request: Request) -> Response:
        """Answer POST by RFC 6749 section 4.4, and GET with the bare token, so that a shell needs no JSON parser.

        Parameters: sub, scope, aud, and expires_in in seconds, which may be negative.
        """
        parameters = request.parameters
        if request.method == "POST" and parameters.get("grant_type") != "client_credentials":
            return json_response({"error": "unsupported_grant_type"}, status=400)
        try:
            expires_in = int(parameters.get("expires_in", LIFETIME_SECONDS))
        except ValueError:
            return json_response({"error": "invalid_request"}, status=400)
        claims: dict[str, object] = {name: parameters[name] for name in ("sub", "scope", "aud") if name in parameters}
        now = int(self._now())
        # A token that is already expired was issued one lifetime earlier, as a genuine one would have been.
        times = {"iat": now + min(0, expires_in - LIFETIME_SECONDS), "exp": now + expires_in}
        token = self.mint({**claims, **times})
        no_store = ("Cache-Control", "no-store")
        if request.method == "GET":
            return Response(200, (("Content-Type", "text/plain"), no_store), token.encode())
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": expires_in}
        return json_response(granted, headers=(no_store,))

    def _keep_rotating(self) -> None:
        while not self._stopped.wait(self._rotate_every):
            with self._rotating:
                if not self._stopped.is_set():
                    self.rotate()

    def __enter__(self) -> Self:
        self._server.start()
        if self._rotate_every is not None:
            self._rotation.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped.set()
        if self._rotation.is_alive():
            self._rotation.join()
        self._server.stop()
