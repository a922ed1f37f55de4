"""Shapes that were seen at providers: one document and one token each, in `tests/data/key_sets`."""

from __future__ import annotations

from typing import Final

from authz.core import certificate, jwk_normalization
from authz.core.algorithms import DEFAULT_ALGORITHMS
from tests.shapes.generated import ANOTHER_KEY, KID_NO_TEXT, NO_ALG
from tests.shapes.shape import Shape
from tests.tools import ROOT

_FOLDER: Final = ROOT / "tests/data/key_sets"
_EMPTY: Final = jwk_normalization.NULL_OR_EMPTY

NOTES: Final[dict[str, str]] = {
    "alg-null": f"{_EMPTY}: alg",
    "ec-p256-x-31-octets": f"{jwk_normalization.COORDINATE_LENGTH}: x",
    "ec-p521-y-65-octets": f"{jwk_normalization.COORDINATE_LENGTH}: y",
    "entra-like": certificate.X5T_MISMATCH,
    "key_ops-empty-list": f"{_EMPTY}: key_ops",
    "keyops-sign-only": jwk_normalization.KEY_OPS_SIGN,
    "oth-empty-list": f"{_EMPTY}: oth",
    "private-members-null": f"{_EMPTY}: d, p, q, dp, dq, qi",
    "rsa-e-leading-zero": f"{jwk_normalization.LEADING_ZEROS}: e",
    "rsa-n-leading-zero": f"{jwk_normalization.LEADING_ZEROS}: n",
    "rsa-n-padded": f"{jwk_normalization.PADDED}: n",
    "rsa-n-std-alphabet": f"{jwk_normalization.STANDARD_ALPHABET}: n",
    "use-jwt-svid": "use jwt-svid read as sig",
    "use-null": f"{_EMPTY}: use",
    "x5c-empty-list": f"{_EMPTY}: x5c",
    "x5c-is-spki": certificate.X5C_UNREADABLE,
    "x5c-pem": certificate.X5C_FORM,
}
REFUSED: Final[dict[str, tuple[str, str]]] = {
    "alg-RSA256": ("alg is not a supported signature algorithm", ""),
    "alg-SHA256withRSA": ("alg is not a supported signature algorithm", ""),
    "bare-jwk": ("the document has no array `keys`: it is one JWK", ""),
    "kid-number": ("kid is not a string", KID_NO_TEXT),
    "rsa-no-alg-PS256": ("algorithms: [PS256]", NO_ALG),
    "rsa-no-alg-RS512": ("algorithms: [RS512]", NO_ALG),
    "x5c-of-another-key": (certificate.X5C_MISMATCH, ANOTHER_KEY),
    "x5c-only-no-n-e": ("n is missing", ""),
}
_MORE: Final = {"ed448-alg-EdDSA": (*DEFAULT_ALGORITHMS, "Ed448")}


def _read(name: str) -> Shape:
    refused, deliberate = REFUSED.get(name, ("", ""))
    return Shape(
        name=name,
        document=(_FOLDER / f"{name}.json").read_bytes(),
        token=(_FOLDER / f"{name}.jwt").read_text(encoding="ascii").strip(),
        algorithms=_MORE.get(name),
        notes=(NOTES[name],) if name in NOTES else (),
        refused=refused,
        deliberate=deliberate,
    )


RECORDED: Final = [_read(file.stem) for file in sorted(_FOLDER.glob("*.json"))]
