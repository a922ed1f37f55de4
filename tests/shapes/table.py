"""The table of COMPARISON: what Envoy's jwt_authn takes, and this does not; each row on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.shapes import generated
from tests.shapes.shape import Shape

WHY: Final = {
    generated.PRIVATE: "whoever reads it can sign. The alarm `authz_keys_secrets_published` rings",
    generated.SYMMETRIC: "the same: it signs as well as it verifies (RFC 8725 section 3.1)",
    generated.WEAK: "RFC 7518 section 3.3",
    generated.ANOTHER_KEY: "RFC 7517 section 4.7: one of the two is a mistake. `insecure.x5c_mismatch` takes the key",
    generated.OTHER_PURPOSE: "`use` and `key_ops` say what a key is for (RFC 7517 sections 4.2 and 4.3)",
    generated.ALG_NO_TEXT: "what the key is for cannot be told",
    generated.KID_NO_TEXT: "which token means it cannot be told",
    generated.PEM_MAP: "no JWK Set (RFC 7517 section 5); who publishes such a map publishes a JWK Set as well",
    generated.AMBIGUOUS: "a stranger's token may cost four signatures, no more; `x5t` and `x5t#S256` choose",
    generated.OTHER_KID: "the key that it names is not there, and may be new: it is looked for",
    generated.NO_ALG: "one key, one algorithm, unless the operator says more: `algorithms: [PS256]` takes it",
}


def write_table(shapes: Iterable[Shape]) -> str:
    """Write a row for each reason, with the shapes that were tried."""
    tried: dict[str, int] = dict.fromkeys(WHY, 0)
    for shape in shapes:
        if shape.deliberate:
            tried[shape.deliberate] += 1
    rows = [f"| {what} | {WHY[what]} | {count} |" for what, count in tried.items()]
    return "\n".join(["| a key set with | why it is refused here | shapes |", "|---|---|--:|", *rows]) + "\n"
