"""Keys, and pools of tokens that differ in nothing but who they speak of, or of proofs that differ in their id."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from jwcrypto.common import base64url_encode
from jwcrypto.jwk import JWK

from authz.demo.signing import SigningKey

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "ML-DSA-65")
ISSUER: Final = "https://idp.bench.test"
AUDIENCE: Final = "api"
REQUESTED: Final = "https://bench.test/orders/5"  # by wrk.lua
_LIFE_SECONDS: Final = 86_400
_AT_ONCE: Final = 500  # tokens that a process makes before it reports


@dataclass(frozen=True, slots=True)
class Pool:
    """A file of *count* distinct lines of one length: tokens, or the same token each time, a space and a proof."""

    path: Path
    count: int


class Mint:
    """Makes tokens of every algorithm that the installed libraries know; each pool once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pools: dict[tuple[str, int], Pool] = {}
        self.keys = {name: key for name in ALGORITHMS if (key := create_key(name)) is not None}

    def pool(self, algorithm: str, count: int) -> Pool:
        """Return a pool of so many tokens."""
        return self._make(algorithm, count, partial(mint, algorithm, self.keys[algorithm].jwk.export()))

    def proofs(self, algorithm: str, count: int) -> Pool:
        """Return a pool of so many proofs, by a key of the client, for one token."""
        key, client = self.keys[algorithm], SigningKey.create(algorithm)
        token = key.sign({**write_claims(0, int(time.time())), "cnf": {"jkt": client.jwk.thumbprint()}})
        return self._make(f"proofs-{algorithm}", count, partial(prove, algorithm, client.jwk.export(), token))

    def opaque(self) -> Pool:
        """Return a pool of one token that is no JWT."""
        return self._make("opaque", 1, write_opaque)

    def _make(self, name: str, count: int, write: Callable[[int, range], str]) -> Pool:
        if (name, count) not in self._pools:
            path = self._folder / f"{name}-{count}.txt"
            parts = [range(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE)]
            with ProcessPoolExecutor() as processes, path.open("w", encoding="ascii") as file:
                file.writelines(processes.map(partial(write, int(time.time())), parts))
            self._pools[name, count] = Pool(path, count)
        return self._pools[name, count]


def create_key(algorithm: str) -> SigningKey | None:
    """Make a key, or nothing where the installed libraries cannot."""
    try:
        key = SigningKey.create(algorithm, kid=algorithm)
        key.sign({})
    except Exception:  # noqa: BLE001 - jwcrypto and cryptography have many ways to say that they do not know it
        return None
    return key


def mint(algorithm: str, private: str, now: int, numbers: range) -> str:
    """Make a line for each number: a typical access token (RFC 9068), as long as any other of the key *private*."""
    key = SigningKey(algorithm, algorithm, JWK.from_json(private))
    return "".join(f"{key.sign(write_claims(number, now))}\n" for number in numbers)


def prove(algorithm: str, private: str, token: str, now: int, numbers: range) -> str:
    """Make a line for each number: *token*, and a proof (RFC 9449) by the key *private* that was never sent."""
    key = SigningKey(algorithm, algorithm, JWK.from_json(private))
    header = {"typ": "dpop+jwt", "alg": algorithm, "jwk": json.loads(key.jwk.export_public())}
    header["jwk"].pop("kid", None)
    ath = base64url_encode(hashlib.sha256(token.encode()).digest())
    claims = {"htm": "GET", "htu": REQUESTED, "iat": now, "ath": ath}
    return "".join(f"{token} {key.sign({**claims, 'jti': f'{number:032x}'}, header=header)}\n" for number in numbers)


def write_opaque(_now: int, numbers: range) -> str:
    """Make a line for each number, as long as the tokens of most servers that issue such."""
    return "".join(f"{number:043x}\n" for number in numbers)


def write_claims(number: int, now: int) -> dict[str, object]:
    """Write the claims of one caller's token."""
    return {
        "iss": ISSUER,
        "sub": f"user-{number:08}",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + _LIFE_SECONDS,
        "jti": f"{number:032x}",
        "client_id": "bench",
        "scope": "orders:read orders:write",
        "realm_access": {"roles": ["reader", "writer"]},
    }
