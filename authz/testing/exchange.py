"""A substitute for the issuer that exchanges tokens (RFC 8693): its unsigned token has the requested claims."""

from __future__ import annotations

import json

from authz.core import base64url
from authz.core.exchange import EXCHANGED, Exchanged, read_request
from authz.core.needs import Need
from authz.testing.instant_lane import InstantLane


def answer_exchange() -> dict[str, InstantLane]:
    """Return the lane to the issuer, which gives a token with the audience and the scope that were asked for."""
    return {EXCHANGED: InstantLane(_exchange)}


def _exchange(need: Need) -> Exchanged:
    request = read_request(need.payload)
    audience = request.audiences[0] if len(request.audiences) == 1 else list(request.audiences)
    parts = ({"alg": "none"}, {"aud": audience, "scope": request.scope})
    head, payload = (base64url.encode(json.dumps(part).encode()).decode() for part in parts)
    return Exchanged(f"{head}.{payload}.not-signed", None)
