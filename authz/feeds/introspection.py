"""A client of an introspection endpoint (RFC 7662).

Rules of this file:
1. Only `token` and `token_type_hint` are sent. With a `scope`, Ory's servers answer "inactive" for an active token
   without that scope.
2. If the token is the cause, the result is a fact, "inactive". If our credentials, the server or the network are the
   cause, the result is a failure: the client gets a retryable status, without the cause.
3. A response must be JSON by its media type, with a boolean `active`; a signed one has exactly the type of RFC 9701.
4. An active token is cached at most until `exp`; a failure is never cached. Of the server's text, only a short error
   code is logged, because other text could contain the token.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from authz.core import base64url
from authz.core.claims import normalize_type
from authz.core.introspection import SIGNED_TYPE, IntrospectionResponse, SignedIntrospectionResponse
from authz.core.needs import Need
from authz.core.strictjson import parse_object
from authz.facts.loop import Loop
from authz.facts.source import Fact, FactCallback, SourceError
from authz.feeds.health import Health
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome, Poster
from authz.feeds.json_service import parse_json_response
from authz.feeds.oauth_client import (
    TOO_LARGE_STATUSES,
    Endpoint,
    OAuthClient,
    read_error,
    read_outcome,
    rejects_client,
)

_TOKEN_ERRORS: Final = frozenset({"unsupported_token_type", "invalid_token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionTtl:
    """How long responses are cached, in seconds: for active tokens at most, and for inactive ones."""

    active: float
    inactive: float


class IntrospectionSource:
    """Introspects tokens at one issuer. *signed_for* is our client id if JWT responses are requested (RFC 9701).

    *now* is in Unix time.
    """

    def __init__(
        self,
        poster: Poster,
        endpoint: Endpoint,
        auth: ClientAuth,
        *,
        ttl: IntrospectionTtl,
        signed_for: str | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client: Final = OAuthClient(poster, endpoint, auth)
        self._ttl: Final = ttl
        self._media_type: Final = f"application/{SIGNED_TYPE}" if signed_for is not None else "application/json"
        self._signed_for: Final = signed_for
        self._now: Final = now
        self._health: Final = Health(monotonic)

    def __call__(self, need: Need) -> Fact:
        """Introspect the token in *need*. Raises SourceError."""
        return self._read_response(lambda: self._client.post(_write(need), accept=self._media_type))

    def start(self, need: Need, loop: Loop, callback: FactCallback) -> bool:
        """Do the same on an idle connection, without blocking; return False if that is not possible."""
        return self._client.start(
            _write(need), accept=self._media_type, loop=loop, callback=partial(self._finish, callback)
        )

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def _finish(self, callback: FactCallback, outcome: Outcome | None) -> None:
        callback(None if outcome is None else partial(self._read_response, partial(read_outcome, outcome)))

    def _read_response(self, respond: Callable[[], Response]) -> Fact:
        try:
            response = respond()
            if response.status != 200:
                return self._read_refusal(response)
            fact = self._read(response) if self._signed_for is None else self._read_signed(response, self._signed_for)
        except SourceError as error:
            raise self._health.classify(error) from error
        self._health.record_success()
        return fact

    def _read(self, response: Response) -> Fact:
        members = parse_json_response(response)
        active = members.get("active")
        if not isinstance(active, bool):
            raise SourceError("unreadable", "the answer has no boolean member active")
        payload = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
        return self._make_fact(IntrospectionResponse(members, payload), members, len(payload), active=active)

    def _read_signed(self, response: Response, client: str) -> Fact:
        if response.media_type != self._media_type:
            raise SourceError("unreadable", f"the answer is not {self._media_type}: signed is set")
        try:
            text = response.body.decode("ascii").strip()
            header, members = (parse_object(base64url.decode(part.encode())) for part in text.split(".")[:2])
        except ValueError:
            raise SourceError("unreadable", "the signed answer is not a JWT") from None
        # The decision verifies the answer. What it would reject is a failure, which must not be cached.
        nested, audience = members.get("token_introspection"), members.get("aud")
        kind = header.get("typ")
        if not isinstance(kind, str) or normalize_type(kind) != SIGNED_TYPE:
            raise SourceError("unreadable", f"the typ of the signed answer is not {SIGNED_TYPE}")
        if client not in (audience if isinstance(audience, list) else [audience]):
            raise SourceError("unreadable", "the aud of the signed answer is not our client")
        if not isinstance(nested, dict):
            raise SourceError("unreadable", "the signed answer has no token_introspection")
        active = nested.get("active") is True
        return self._make_fact(SignedIntrospectionResponse(text), nested, len(text), active=active)

    def _make_fact(self, value: object, members: dict[str, object], size: int, *, active: bool) -> Fact:
        if not active:
            return Fact(value, self._ttl.inactive, size, "inactive", negative=True)
        expires = members.get("exp")
        left = expires - self._now() if isinstance(expires, int | float) else self._ttl.active
        return Fact(value, max(0.0, min(self._ttl.active, left)), size, "active")

    def _read_refusal(self, response: Response) -> Fact:
        """Return "inactive" if the token caused a status other than 200. Raises SourceError for other causes."""
        status, error = response.status, read_error(response)
        shown = f"HTTP status {status}{f', {error}' if error else ''}"
        if status in TOO_LARGE_STATUSES or (status == 400 and error in _TOKEN_ERRORS):
            return self._refused(shown)
        if rejects_client(response):
            raise self._health.rejection_error(
                status, f"{shown}: the server rejects our credentials (introspection.client)"
            )
        if status == 400:
            if self._health.is_healthy:  # our credentials are accepted: the token is the cause
                return self._refused(shown)
            # The cause is unknown: our credentials, or the token. So clients may retry, and no breaker opens.
            raise SourceError("bad_request", f"{shown}: our credentials, or this token", counts=False, responded=True)
        raise self._health.failure_of_service(status, shown)

    def _refused(self, shown: str) -> Fact:
        note = f"the issuer rejects the introspection of the token: {shown}"
        return Fact(
            IntrospectionResponse({"active": False}, note=note), self._ttl.inactive, 0, "refused", negative=True
        )


def _write(need: Need) -> list[tuple[str, str]]:
    return [("token", need.payload), ("token_type_hint", "access_token")]
