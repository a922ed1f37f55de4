"""Keys, and pools of tokens that differ in nothing but who they speak of."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from jwcrypto.jwk import JWK

from authz.demo.signing import SigningKey

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "ML-DSA-65")
ISSUER: Final = "https://idp.bench.test"
AUDIENCE: Final = "api"
_LIFE_SECONDS: Final = 86_400
_AT_ONCE: Final = 500  # tokens that a process makes before it tells


@dataclass(frozen=True, slots=True)
class Pool:
    """A file of *count* distinct tokens of one length, a line each."""

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
        if (algorithm, count) not in self._pools:
            path = self._folder / f"{algorithm}-{count}.txt"
            sign = partial(mint, algorithm, self.keys[algorithm].jwk.export(), int(time.time()))
            parts = [range(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE)]
            with ProcessPoolExecutor() as processes, path.open("w", encoding="ascii") as file:
                file.writelines(processes.map(sign, parts))
            self._pools[algorithm, count] = Pool(path, count)
        return self._pools[algorithm, count]


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
