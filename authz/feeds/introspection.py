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
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final
from urllib.parse import urlencode

from authz.core import base64url
from authz.core.introspection import SIGNED_TYPE, IntrospectionResponse, SignedIntrospectionResponse
from authz.core.needs import Need
from authz.core.strictjson import parse_object
from authz.facts.source import Fact, SourceError
from authz.feeds.discovery import read_url
from authz.feeds.failure import RefreshError
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.fetch import Fetch, Response
from authz.feeds.http.post import Post, Poster
from authz.feeds.json_service import parse_json_response
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

HEALTHY_SECONDS: Final = 300.0  # after a 200, a status 400 is blamed on the token, not on our credentials
_ERROR_CODE: Final = re.compile(r"[a-z_]{1,64}")
_TOKEN_ERRORS: Final = frozenset({"unsupported_token_type", "invalid_token"})
CLIENT_ERRORS: Final = frozenset({"invalid_client", "unauthorized_client", "access_denied", "insufficient_scope"})
TOO_LARGE_STATUSES: Final = frozenset({413, 414, 431})
CRASH_STATUSES: Final = frozenset({422, 500})


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTtl:
    """How long responses are cached, in seconds: for active tokens at most, and for inactive ones."""

    active: float
    inactive: float


class Endpoint:
    """The URL of an endpoint: configured, or the *member* of the issuer's discovery document."""

    def __init__(
        self,
        url: str | None,
        *,
        fetch: Fetch,
        discovery_url: str,
        issuer: str,
        every: float,
        monotonic: Callable[[], float],
        member: str = "introspection_endpoint",
    ) -> None:
        self._url = url
        self._fetch: Final = fetch
        self._discovery_url: Final = discovery_url
        self._issuer: Final = issuer
        self._every: Final = every
        self._monotonic: Final = monotonic
        self._member: Final = member
        self._until = float("inf") if url is not None else 0.0
        self._lock: Final = Lock()

    def locate(self) -> str:
        """Return the URL; if a new discovery fails, the last one that was discovered. Raises RefreshError.

        Only one question waits for a new discovery; the others use the last URL.
        """
        url = self._url
        if not self._lock.acquire(blocking=url is None):
            return url or ""
        try:
            if self._url is None or self._monotonic() >= self._until:
                try:
                    document = self._fetch(self._discovery_url, {}).body
                    self._url = read_url(self._member, document, issuer=self._issuer)
                except RefreshError:
                    if self._url is None:
                        raise
                except ValueError as error:
                    if self._url is None:
                        text = f"{printable(self._discovery_url)}: {error}"
                        raise RefreshError(Refresh.DISCOVERY_REJECTED, text) from None
                self._until = self._monotonic() + self._every
            return self._url
        finally:
            self._lock.release()


class IntrospectionSource:
    """Introspects tokens at one issuer. *signed* requests JWT responses (RFC 9701); *now* is in Unix time."""

    def __init__(
        self,
        poster: Poster,
        endpoint: Endpoint,
        auth: ClientAuth,
        *,
        ttl: CacheTtl,
        signed: bool = False,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poster: Final = poster
        self._endpoint: Final = endpoint
        self._auth: Final = auth
        self._ttl: Final = ttl
        self._media_type: Final = f"application/{SIGNED_TYPE}" if signed else "application/json"
        self._signed: Final = signed
        self._now: Final = now
        self._monotonic: Final = monotonic
        self._healthy_until = 0.0

    def __call__(self, need: Need) -> Fact:
        """Introspect the token in *need*. Raises SourceError."""
        try:
            url = self._endpoint.locate()
            answer = self._poster.post(url, lambda: self._write(need.sent))
        except RefreshError as error:
            raise SourceError(error.result.value, str(error)) from error
        if answer.status == 200:
            fact = self._read_signed(answer) if self._signed else self._read(answer)
            self._healthy_until = self._monotonic() + HEALTHY_SECONDS
            return fact
        return self._read_refusal(answer)

    def close(self) -> None:
        """Close the idle connections."""
        self._poster.close()

    def _write(self, token: str) -> Post:
        credentials = self._auth.credentials()
        body = urlencode({"token": token, "token_type_hint": "access_token", **credentials.fields}).encode("ascii")
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": self._media_type}
        return Post(body, {**headers, **credentials.headers})

    def _read(self, answer: Response) -> Fact:
        members = parse_json_response(answer)
        active = members.get("active")
        if not isinstance(active, bool):
            raise SourceError("unreadable", "the answer has no boolean member active")
        payload = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
        return self._make_fact(IntrospectionResponse(members, payload), members, len(payload), active=active)

    def _read_signed(self, answer: Response) -> Fact:
        if answer.media_type != self._media_type:
            raise SourceError("unreadable", f"the answer is not {self._media_type}: signed is set")
        try:
            text = answer.body.decode("ascii").strip()
            said = parse_object(base64url.decode(text.split(".")[1].encode())).get("token_introspection")
        except (ValueError, IndexError):
            raise SourceError("unreadable", "the signed answer is no JWT") from None
        members = said if isinstance(said, dict) else {}  # not verified here: it can only shorten the caching
        active = members.get("active") is True
        return self._make_fact(SignedIntrospectionResponse(text), members, len(text), active=active)

    def _make_fact(self, value: object, members: dict[str, object], size: int, *, active: bool) -> Fact:
        if not active:
            return Fact(value, self._ttl.inactive, size, "inactive", negative=True)
        expires = members.get("exp")
        left = expires - self._now() if isinstance(expires, int | float) else self._ttl.active
        return Fact(value, max(0.0, min(self._ttl.active, left)), size, "active")

    def _read_refusal(self, answer: Response) -> Fact:
        """Return "inactive" if the token caused a status other than 200. Raises SourceError for other causes."""
        status, error = answer.status, read_error(answer)
        shown = f"HTTP status {status}{f', {error}' if error else ''}"
        if status in TOO_LARGE_STATUSES or (status == 400 and error in _TOKEN_ERRORS):
            return self._refused(shown)
        if status in {401, 403} or (status == 400 and error in CLIENT_ERRORS):
            raise SourceError("unauthorized", f"{shown}: the server rejects our credentials (introspection.client)")
        if status == 400:
            if self._monotonic() < self._healthy_until:  # our credentials are accepted: the token is the cause
                return self._refused(shown)
            # The cause is unknown: our credentials, or the token. So clients may retry, and no breaker opens.
            raise SourceError("bad_request", f"{shown}: our credentials, or this token", counts=False)
        # A server that fails for one token answers about others: clients, who choose their tokens, open no breaker.
        about_this = status in CRASH_STATUSES and self._monotonic() < self._healthy_until
        raise SourceError(Refresh.STATUS.value, shown, counts=not about_this)

    def _refused(self, shown: str) -> Fact:
        note = f"the issuer rejects the introspection of the token: {shown}"
        return Fact(
            IntrospectionResponse({"active": False}, note=note), self._ttl.inactive, 0, "refused", negative=True
        )


def read_error(answer: Response) -> str:
    """Return the `error` of an OAuth response (RFC 6749 section 5.2) if it has the form of a code; otherwise ""."""
    try:
        error = parse_object(answer.body).get("error")
    except ValueError:
        return ""
    return error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else ""
