"""Asks a Kubernetes API server about tokens of service accounts: authentication.k8s.io/v1 TokenReview.

Rules of this file:
1. A token that is bound to a pod is not authenticated any more when the pod is deleted, long before its `exp`.
2. The audiences of the issuer are asked for, and the answer must name one of them: a server that does not know
   audiences would accept a token for itself.
3. `authenticated: false`, which may be left out, is a fact about the token, with or without `error`. A status other
   than 200 and 201 is about us: the role system:auth-delegator is needed. Anything but a TokenReview in JSON, such as
   the error page of a proxy, is about neither: no token is refused for it. None of these opens the circuit breaker:
   see authz.feeds.health.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from authz.core.introspection import IntrospectionResponse
from authz.core.needs import Need
from authz.facts.loop import Loop
from authz.facts.source import Fact, FactCallback, SourceError
from authz.feeds.failure import RefreshError
from authz.feeds.health import Health
from authz.feeds.http.cached_credentials import invalidate_if_rejected, nonblocking_credentials
from authz.feeds.http.client_auth import ClientAuth, Credentials
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Outcome, Post, Poster
from authz.feeds.introspection import IntrospectionTtl
from authz.feeds.json_service import parse_json_response, rejects_credentials
from authz.telemetry.redaction import printable

_API: Final = "authentication.k8s.io/v1"
_KIND: Final = "TokenReview"


class TokenReviewSource:
    """Asks the API server at *url*, on behalf of *audiences*."""

    def __init__(
        self,
        poster: Poster,
        url: str,
        auth: ClientAuth,
        *,
        audiences: tuple[str, ...],
        ttl: IntrospectionTtl,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poster: Final = poster
        self._url: Final = url
        self._auth: Final = auth
        self._audiences: Final = audiences
        self._ttl: Final = ttl
        self._health: Final = Health(monotonic)

    def __call__(self, need: Need) -> Fact:
        """Ask about the token in *need*. Raises SourceError."""
        return self._read_outcome(
            lambda: self._poster.post(self._url, lambda: self._write(need, self._auth.credentials()))
        )

    def start(self, need: Need, loop: Loop, callback: FactCallback) -> bool:
        """Do the same on an idle connection, without blocking; return False if that is not possible."""
        credentials = nonblocking_credentials(self._auth)
        if credentials is None:
            return False
        return self._poster.start(self._url, self._write(need, credentials), loop, partial(self._finish, callback))

    def _finish(self, callback: FactCallback, outcome: Outcome | None) -> None:
        must_repeat = outcome is None or invalidate_if_rejected(self._auth, outcome, rejects_credentials)
        callback(None if outcome is None or must_repeat else partial(self._read_outcome, outcome))

    def _read_outcome(self, outcome: Outcome) -> Fact:
        try:
            response = outcome()
        except RefreshError as error:
            raise self._health.no_response_error(error) from error
        if response.status in {401, 403}:
            text = f"HTTP status {response.status}: our account may not create tokenreviews (system:auth-delegator)"
            raise self._health.rejection_error(response.status, text)
        if response.status not in {200, 201}:
            raise self._health.failure_of_service(response.status, f"HTTP status {response.status}")
        try:
            fact = self._read_review(response)
        except SourceError as error:
            raise self._health.content_error(str(error)) from None
        self._health.record_success()
        return fact

    def _read_review(self, response: Response) -> Fact:
        members = parse_json_response(response)
        status = members.get("status")
        if members.get("kind", _KIND) != _KIND or not isinstance(status, dict):
            raise SourceError("unreadable", "the answer is not a TokenReview with a status")
        return self._read(status)

    def close(self) -> None:
        """Close the idle connections."""
        self._poster.close()

    def _write(self, need: Need, credentials: Credentials) -> Post:
        spec = {"token": need.payload, "audiences": list(self._audiences)}
        body = json.dumps({"apiVersion": _API, "kind": _KIND, "spec": spec}).encode()
        return Post(body, {"content-type": "application/json", **credentials.headers})

    def _read(self, status: Mapping[str, object]) -> Fact:
        authenticated = status.get("authenticated", False)
        if not isinstance(authenticated, bool):
            raise SourceError("unreadable", "authenticated is not a boolean")
        if not authenticated:
            error = status.get("error")
            why = printable(error) if isinstance(error, str) and error else "not authenticated"
            fact = IntrospectionResponse({"active": False}, note=f"the API server says: {why}")
            return Fact(fact, self._ttl.inactive, 0, "inactive", negative=True)
        user, audiences = status.get("user"), status.get("audiences")
        name = user.get("username") if isinstance(user, dict) else None
        if not isinstance(name, str):
            raise SourceError("unreadable", "the answer names no user")
        if not isinstance(audiences, list) or not any(audience in self._audiences for audience in audiences):
            raise SourceError("unreadable", "the answer names none of the audiences that were asked for")
        return Fact(IntrospectionResponse({"active": True, "sub": name}), self._ttl.active, len(name), "active")
