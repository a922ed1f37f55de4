"""Four verifiers of one token: our core, and three libraries as a careful user sets them up.

Careful means: algorithms by a list, the key by its id (without one: the only key of that algorithm), issuer and
audience compared, `exp` and `sub` asked for, no leeway. Each judge sees the same text, JWK Set and instant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet as JoserfcKeySet
from jwcrypto.jwk import JWK, JWKSet
from jwcrypto.jws import JWS
from jwt import PyJWKSet, PyJWT, get_unverified_header

from authz.core.decision import Allow
from authz.core.keys import KeySet
from tests.fixtures import A, T, decide, issuer_a, make_snapshot

# HS256 among them: the list in which a public key gets taken for a secret.
ALGORITHMS: Final = [
    *("RS256", "PS256", "PS512", "ES256", "ES384", "ES512", "ES256K"),
    *("EdDSA", "Ed25519", "Ed448", "ML-DSA-44", "HS256"),
]
Judge = Callable[[str, str], object]
_Key = TypeVar("_Key")


def _choose(header: Mapping[str, Any], keys: Iterable[_Key], describe: Callable[[_Key], tuple[object, object]]) -> _Key:
    """Return the first key of that id, or the only one of that algorithm. Raises StopIteration or ValueError."""
    if "kid" in header:
        return next(key for key in keys if describe(key)[0] == header["kid"])
    (only,) = (key for key in keys if describe(key)[1] == header["alg"])
    return only


def core(token: str, keys: str) -> None:
    """Authorize a request with this token. Raises PermissionError where it is denied."""
    if not isinstance(decide(token, snapshot=_world(keys)), Allow):
        raise PermissionError("denied")


@lru_cache(maxsize=64)
def _world(keys: str) -> Any:  # noqa: ANN401 - a Snapshot, which lru_cache forgets
    return make_snapshot(a=issuer_a(ALGORITHMS, KeySet.from_json(keys)))


class _StoppedPyJWT(PyJWT):
    """PyJWT at the instant T: it has no parameter for the time, only methods that are given it."""

    def _validate_exp(self, payload: dict[str, Any], now: float, leeway: float) -> None:
        super()._validate_exp(payload, T, leeway)

    def _validate_nbf(self, payload: dict[str, Any], now: float, leeway: float) -> None:
        super()._validate_nbf(payload, T, leeway)

    def _validate_iat(self, payload: dict[str, Any], now: float, leeway: float) -> None:
        super()._validate_iat(payload, T, leeway)


def pyjwt(token: str, keys: str) -> None:
    """`PyJWT.decode`. Raises whatever it likes where the token is bad."""
    header = get_unverified_header(token)
    key = _choose(header, _pyjwt_keys(keys).keys, lambda key: (key.key_id, key.algorithm_name))
    _StoppedPyJWT().decode(
        token, key, algorithms=ALGORITHMS, audience="api", issuer=A, options={"require": ["exp", "iss", "aud", "sub"]}
    )


@lru_cache(maxsize=64)
def _pyjwt_keys(keys: str) -> PyJWKSet:
    return PyJWKSet.from_json(keys)


def joserfc(token: str, keys: str) -> None:
    """`joserfc.jwt.decode` and its claims registry. Raises whatever it likes where the token is bad."""
    known = _joserfc_keys(keys)
    decoded = joserfc_jwt.decode(
        token,
        lambda jws: (
            known if "kid" in jws.headers() else _choose(jws.headers(), known.keys, lambda key: (key.kid, key.alg))
        ),
        algorithms=ALGORITHMS,
    )
    registry = joserfc_jwt.JWTClaimsRegistry(
        now=T,
        iss={"essential": True, "value": A},
        aud={"essential": True, "value": "api"},
        exp={"essential": True},
        sub={"essential": True},
    )
    registry.validate(decoded.claims)


@lru_cache(maxsize=64)
def _joserfc_keys(keys: str) -> JoserfcKeySet:
    return JoserfcKeySet.import_key_set(json.loads(keys))


def jwcrypto(token: str, keys: str) -> None:
    """Verify with `jwcrypto.jws.JWS`, and compare the claims by hand, as its users do."""
    jws = JWS()
    jws.allowed_algs = ALGORITHMS
    jws.deserialize(token)
    known = _jwcrypto_keys(keys)
    if "kid" in jws.jose_header:
        jws.verify(known.get_key(jws.jose_header["kid"]))
    else:
        jws.verify(_choose(jws.jose_header, cast("Iterable[JWK]", known), _describe_jwk))  # its stubs say a dict
    claims = json.loads(jws.payload)
    audience = claims["aud"]
    good = (
        claims["iss"] == A
        and ("api" in audience if isinstance(audience, list) else audience == "api")
        and claims["exp"] > T
        and claims.get("nbf", 0) <= T
        and claims["sub"]
    )
    if not good:
        raise ValueError("claims are not what they should be")


def _describe_jwk(key: JWK) -> tuple[object, object]:
    return key.get("kid"), key.get("alg")


@lru_cache(maxsize=64)
def _jwcrypto_keys(keys: str) -> JWKSet:
    return JWKSet.from_json(keys)


JUDGES: Final[Mapping[str, Judge]] = {"core": core, "PyJWT": pyjwt, "joserfc": joserfc, "jwcrypto": jwcrypto}


def allowers(token: str, keys: str) -> frozenset[str]:
    """Return who allows *token* under the JWK Set *keys*. Whatever is raised is a denial."""
    return frozenset(name for name, judge in JUDGES.items() if _allows(judge, token, keys))


def _allows(judge: Judge, token: str, keys: str) -> bool:
    try:
        judge(token, keys)
    except Exception:  # noqa: BLE001 - libraries raise exceptions of many families for bad tokens
        return False
    return True
