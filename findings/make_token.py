"""A key, its key set and tokens signed by it, for the scripts beside this file. Needs jwcrypto."""

from __future__ import annotations

import json
from typing import Any

from jwcrypto import jwk, jwt

CLAIMS = {"iss": "https://issuer.example", "sub": "account-1", "aud": "orders", "exp": 4102444800}
KEY = jwk.JWK.generate(kty="EC", crv="P-256", kid="k1", alg="ES256", use="sig")


def key_set(*keys: dict[str, Any]) -> str:
    """Return the key set of KEY, with *keys* before it."""
    return json.dumps({"keys": [*keys, KEY.export_public(as_dict=True)]})


def token(**claims: Any) -> str:  # noqa: ANN401 - claims are JSON
    """Sign CLAIMS with *claims* added, with KEY."""
    signed = jwt.JWT(header={"alg": "ES256", "typ": "JWT", "kid": "k1"}, claims=CLAIMS | claims)
    signed.make_signed_token(KEY)
    return str(signed.serialize())


def provider(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 - a configuration of Envoy
    """Return a provider of Envoy's jwt_authn that trusts KEY."""
    return {"issuer": CLAIMS["iss"], "audiences": ["orders"], "local_jwks": {"inline_string": key_set()}, **settings}
