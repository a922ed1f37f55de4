"""What an issuer would answer about a token (RFC 7662), in a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from authz.core.introspection import (
    INTROSPECTION,
    SIGNED_TYPE,
    Introspection,
    IntrospectionResponse,
    SignedIntrospectionResponse,
)
from authz.core.needs import Need
from authz.demo.signing import SigningKey
from authz.testing.instant_lane import InstantLane

FindIssuer = Callable[[str], tuple[Introspection | None, str, SigningKey]]
"""Returns the settings of an issuer by its configured name, its `iss` and the key that signs for it."""


def answer_introspection(members: Mapping[str, object], find_issuer: FindIssuer) -> dict[str, InstantLane]:
    """Return the lane to the issuers, each of which answers with *members*, signed (RFC 9701) if asked for that."""

    def answer(need: Need) -> IntrospectionResponse | SignedIntrospectionResponse:
        rules, iss, key = find_issuer(need.source)
        if rules is not None and rules.signed:
            claims = {"iss": iss, "aud": rules.client, "token_introspection": dict(members)}
            return SignedIntrospectionResponse(key.sign(claims, header={**key.header(), "typ": SIGNED_TYPE}))
        return IntrospectionResponse(members, json.dumps(members).encode())

    return {INTROSPECTION: InstantLane(answer)}
