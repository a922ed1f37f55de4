"""A client of token exchange (RFC 8693), at the token endpoint of an issuer.

Rules of this file:
1. Only what was requested is accepted: `issued_token_type` is the requested one, `token_type` is Bearer, and the `aud`
   of a JWT contains every requested audience. Keycloak ignores `resource` silently, and returns an ID token in
   `access_token` if one is requested, with `token_type: N_A`.
2. If the caller's token is the cause, the result is a fact, "refused". If our credentials, the server or the network
   are the cause, the result is a failure: the client gets a retryable status, without the cause.
3. A caller who can choose a token must not open the circuit breaker: an error response does not (authz.feeds.health).
4. A token is cached until EXPIRY_MARGIN before its end, and not at all if its end is not known; a failure never. In the
   last quarter of that time it is renewed. Of the server's text, only a short error code is logged, because other text
   could contain a token.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from authz.core import base64url
from authz.core.exchange import Exchanged, ExchangeRefused, ExchangeRequest, TokenType, read_request
from authz.core.needs import Need
from authz.core.strictjson import parse_object
from authz.facts.source import Fact, SourceError
from authz.feeds.health import Health
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.http.fetch import Response
from authz.feeds.http.post import Poster
from authz.feeds.oauth_client import (
    CLIENT_ERRORS,
    TOO_LARGE_STATUSES,
    Endpoint,
    OAuthClient,
    read_error,
)
from authz.telemetry.redaction import printable

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
EXPIRY_MARGIN: Final = 10.0
RENEW_AFTER: Final = 0.75  # of the time that a token is cached for; the lane ends that up to a tenth sooner
MAX_TOKEN_BYTES: Final = 16_384  # it is sent in a header
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_JWT_PARTS: Final = 3
_MAX_SECONDS: Final = 1e12
# RFC 8693 section 2.2.2, RFC 6749 section 5.2: the token itself, and what it is not to be exchanged for.
_INVALID: Final = frozenset({"invalid_grant", "invalid_token"})
_REFUSED: Final = frozenset({"invalid_target", "invalid_scope"})
_CLIENT_ERRORS: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeTtl:
    """How long answers are cached, in seconds: tokens at most, and refusals."""

    token: float
    refused: float


class ExchangeSource:
    """Exchanges tokens for those of *token_type* at one server; *now* is in Unix time."""

    def __init__(
        self,
        poster: Poster,
        endpoint: Endpoint,
        auth: ClientAuth,
        *,
        token_type: TokenType,
        ttl: ExchangeTtl,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client: Final = OAuthClient(poster, endpoint, auth)
        self._token_type: Final = token_type
        self._ttl: Final = ttl
        self._now: Final = now
        self._health: Final = Health(monotonic)

    def __call__(self, need: Need) -> Fact:
        """Exchange the token in *need*. Raises SourceError."""
        request = read_request(need.payload)
        try:
            response = self._client.post(self._write(request), accept="application/json")
        except SourceError as error:
            raise self._health.classify(error) from error
        if response.status != 200:
            return self._read_refusal(response)
        fact = self._read(response, request)
        self._health.record_success()
        return fact

    def close(self) -> None:
        """Close the idle connections."""
        self._client.close()

    def _write(self, request: ExchangeRequest) -> list[tuple[str, str]]:
        return [
            ("grant_type", GRANT_TYPE),
            ("subject_token", request.subject),
            ("subject_token_type", TokenType.ACCESS_TOKEN.urn),
            ("requested_token_type", self._token_type.urn),
            *(("audience", audience) for audience in request.audiences),
            *((("scope", request.scope),) if request.scope else ()),
        ]

    def _read(self, response: Response, request: ExchangeRequest) -> Fact:
        members = self._parse(response)
        text = members.get("access_token")
        if not isinstance(text, str) or not _TOKEN.fullmatch(text) or len(text) > MAX_TOKEN_BYTES:
            raise self._unexpected("access_token is absent, too long, or not a token")
        if members.get("issued_token_type") != self._token_type.urn:
            raise self._unexpected(f"issued_token_type is not {self._token_type.value}")
        if str(members.get("token_type")).lower() != "bearer":
            raise self._unexpected("token_type is not Bearer")
        claims = _read_claims(text)
        if claims is None and self._token_type is TokenType.JWT:
            raise self._unexpected("access_token is not a JWT")
        if claims is not None and not set(request.audiences) <= _audiences(claims):
            raise self._unexpected("its aud has not every audience that was asked for")
        expires = self._find_expiry(members, claims or {})
        now = self._now()
        left = 0.0 if expires is None else expires - now - EXPIRY_MARGIN
        ttl = max(0.0, min(self._ttl.token, left))
        renew = now + RENEW_AFTER * ttl if ttl > 0.0 else None
        return Fact(Exchanged(text, expires, renew), ttl, len(text), "exchanged")

    def _find_expiry(self, members: Mapping[str, object], claims: Mapping[str, object]) -> float | None:
        """Return the earlier of `expires_in` and `exp`, in Unix time; None if there is neither."""
        lifetime, exp = _read_seconds(members.get("expires_in")), _read_seconds(claims.get("exp"))
        expiries = [end for end in (None if lifetime is None else self._now() + lifetime, exp) if end is not None]
        if expiries and min(expiries) <= self._now():
            raise self._unexpected("the token has ended already")
        return min(expiries, default=None)

    def _unexpected(self, why: str) -> SourceError:
        return self._health.content_error(f"the answer is not what was asked for: {why}")

    def _read_refusal(self, response: Response) -> Fact:
        """Return "refused" if the token caused a status other than 200. Raises SourceError for other causes."""
        status, error = response.status, read_error(response)
        shown = f"HTTP status {status}{f', {error}' if error else ''}"
        if status in TOO_LARGE_STATUSES or (status == 400 and error in _INVALID):
            return self._refuse(shown, invalid=True)
        if status in {400, 403} and error in _REFUSED:
            return self._refuse(shown, invalid=False)
        if status == 401 or error in _CLIENT_ERRORS:
            text = f"{shown}: the server rejects our client (identity.token.exchange.client)"
            raise self._health.rejection_error(status, text)
        if status in {400, 403}:
            # Keycloak answers access_denied if the token does not name our client as an audience.
            if self._health.is_healthy:
                return self._refuse(shown, invalid=error not in CLIENT_ERRORS)
            raise SourceError("bad_request", f"{shown}: our client, or this token", counts=False, responded=True)
        raise self._health.failure_of_service(status, shown)

    def _refuse(self, shown: str, *, invalid: bool) -> Fact:
        return Fact(ExchangeRefused(shown, invalid), self._ttl.refused, 0, "refused", negative=True)

    def _parse(self, response: Response) -> dict[str, object]:
        if response.media_type != "application/json":
            raise self._unexpected(f"it is {printable(response.media_type) or 'untyped'}, not JSON")
        try:
            return parse_object(response.body)
        except ValueError:
            raise self._unexpected(f"it is not a JSON object, {len(response.body)} bytes") from None


def _read_claims(text: str) -> dict[str, object] | None:
    """Return the claims of a JWT, not verified: they can only lead to a refusal. None if it is no JWT."""
    parts = text.split(".")
    if len(parts) != _JWT_PARTS:
        return None
    try:
        return parse_object(base64url.decode(parts[1].encode()))
    except ValueError:
        return None


def _audiences(claims: Mapping[str, object]) -> set[object]:
    audiences = claims.get("aud")
    return {
        audience
        for audience in (audiences if isinstance(audiences, list) else [audiences])
        if isinstance(audience, str)
    }


def _read_seconds(value: object) -> float | None:
    """Return a number of seconds; None for anything else, or beyond what a clock shows."""
    is_seconds = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_SECONDS
    return float(value) if is_seconds and isinstance(value, int | float) else None
