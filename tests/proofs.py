"""Proofs of possession (DPoP, RFC 9449), as most clients write them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from authz.demo.signing import SigningKey
from tests.fixtures import T, changed, signer

TOKEN: Final = "tok"
URL: Final = "https://api.test/a"


def key(algorithm: str = "ES256") -> SigningKey:
    """Return the key of a client."""
    return signer(algorithm, f"dpop-{algorithm}")


def token_hash(token: str) -> str:
    """Return the `ath` of *token*."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def prove(signing: SigningKey | None = None, *, header: Mapping[str, object] = {}, **claims: Any) -> str:  # noqa: ANN401
    """Write a proof as most clients do, with changes."""
    signing = signing or key()
    jwk = {name: value for name, value in signing.public().items() if name not in ("kid", "alg", "use")}
    head = changed({"typ": "dpop+jwt", "alg": signing.header()["alg"], "jwk": jwk}, header)
    body = {"jti": "an id", "htm": "GET", "htu": URL, "iat": T, "ath": token_hash(TOKEN)}
    return signing.sign_bytes(json.dumps(changed(body, claims)).encode(), header=json.dumps(head).encode())
