"""The list of COMPARISON: what Envoy's jwt_authn takes, and this does not; each line on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.shapes import generated
from tests.shapes.shape import Shape

WHY: Final = {
    generated.PRIVATE: "anyone who reads it can sign: `authz_keys_secrets_published` is above 0",
    generated.SYMMETRIC: "the same",
    generated.WEAK: "RFC 7518 section 3.3",
    generated.ANOTHER_KEY: "RFC 7517 section 4.7; `insecure.x5c_mismatch` accepts it",
    generated.OTHER_PURPOSE: "RFC 7517 sections 4.2 and 4.3",
    generated.ALG_NO_TEXT: "its purpose is unknown",
    generated.KID_NO_TEXT: "no token can name it",
    generated.PEM_MAP: "such issuers also publish a JWK Set",
    generated.AMBIGUOUS: "a token may cost four signatures; `x5t` and `x5t#S256` choose",
    generated.OTHER_KID: "the named key may be new: it is fetched",
    generated.NO_ALG: "one key, one algorithm; `algorithms: [PS256]` accepts it",
}


def write_shapes(shapes: Iterable[Shape]) -> str:
    """Write a line for each reason, with the number of shapes that were tried."""
    tried: dict[str, int] = dict.fromkeys(WHY, 0)
    for shape in shapes:
        if shape.deliberate:
            tried[shape.deliberate] += 1
    return "".join(f"- {what} ({count}): {WHY[what]}\n" for what, count in tried.items())
