"""Validate one JWK, independently of the other keys of its set.

Rules of this file:
0. The input is in standard form (`jwk_normalization`), and every deviation from it is rejected.
1. Public keys only; `oct` only from a local file (RFC 8725 section 3.1): a published symmetric key is not secret.
2. `kty`, `crv`, `alg`, `use` and `key_ops` must be consistent (RFC 7517 section 4, RFC 7518 section 6).
3. Numbers are canonical and of the right length; weak keys are rejected.
4. Unknown values are invalid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from authz.core import base64url
from authz.core.algorithms import ALGORITHMS, fully_specified
from authz.core.jwk_normalization import COORDINATE_BYTES

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MAX_RSA_EXPONENT: Final = 2**32 - 1  # larger ones make every verification slower
MIN_SECRET_BYTES: Final = 32

_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_PUBLIC: Final = frozenset({"kty", "n", "e", "crv", "x", "y", "pub"})
LEAKED_PRIVATE_KEY: Final = "private key material was published"
LEAKED_SECRET: Final = "symmetric key in a published set"
# RFC 7518 section 4.1, RFC 8037 section 3.2. Encryption keys are expected in key sets, but verify no tokens.
_ENCRYPTION_ALGS: Final = frozenset(
    {
        *("RSA1_5", "RSA-OAEP", "RSA-OAEP-256", "RSA-OAEP-384", "RSA-OAEP-512", "dir"),
        *("ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"),
        *("A128KW", "A192KW", "A256KW", "A128GCMKW", "A192GCMKW", "A256GCMKW"),
    }
)
_ENCRYPTION_CURVES: Final = frozenset({"X25519", "X448"})
_OKP_BYTES: Final = {"Ed25519": 32, "Ed448": 57}
_ML_DSA_BYTES: Final = {"ML-DSA-44": 1312, "ML-DSA-65": 1952, "ML-DSA-87": 2592}  # FIPS 204 table 2
_SMALL_PRIMES: Final = tuple(n for n in range(3, 168, 2) if all(n % d for d in range(3, n, 2)))
# CVE-2017-15361 (ROCA): modulo every small prime, the moduli of the faulty library are powers of 65537.
_ROCA: Final = {p: frozenset(pow(65537, i, p) for i in range(p)) for p in _SMALL_PRIMES}


class InvalidJwk(Exception):
    """Raised if a JWK must not be used; the message contains no key material."""


class NotASigningKey(InvalidJwk):
    """Raised if a JWK has another purpose than to verify signatures, such as encryption."""


@dataclass(frozen=True, slots=True)
class ValidatedJwk:
    """A valid JWK: its parameters, its size in *bits*, and the members that make up the key, as *material*."""

    kty: str
    crv: str | None
    alg: str | None
    bits: int
    material: dict[str, str]


def validate_jwk(jwk: dict[str, object], *, local: bool) -> ValidatedJwk:
    """Check one JWK in standard form. Raises InvalidJwk; NotASigningKey takes precedence."""
    _check_purpose(jwk)
    kty = jwk.get("kty")
    if not isinstance(kty, str):
        raise InvalidJwk("kty is missing or not a string")
    alg = _read_alg(jwk)
    if publishes_private_part(jwk):
        raise InvalidJwk(LEAKED_PRIVATE_KEY)
    match kty:
        case "RSA":
            valid = _validate_rsa(jwk, alg)
        case "EC":
            valid = _validate_ec(jwk, alg)
        case "OKP":
            valid = _validate_okp(jwk, alg)
        case "AKP":
            valid = _validate_akp(jwk, alg)
        case "oct" if local:
            valid = _validate_oct(jwk, alg)
        case "oct":
            raise InvalidJwk(LEAKED_SECRET if "k" in jwk else "k is missing or not a string")
        case _:
            raise InvalidJwk("kty is unknown")
    if alg is not None:
        wanted = ALGORITHMS[fully_specified(alg, valid.crv)]
        if (wanted.kty, wanted.crv) != (valid.kty, valid.crv):
            raise InvalidJwk(f"alg {alg} does not match the key type or curve")
    return valid


def _read_alg(jwk: dict[str, object]) -> str | None:
    alg = jwk.get("alg")
    if isinstance(alg, str) and alg in ALGORITHMS:
        return alg
    if "alg" in jwk:
        raise InvalidJwk("alg is not a supported signature algorithm")
    return None


def publishes_private_part(jwk: dict[str, object]) -> bool:
    """Return whether *jwk* contains private key members. Symmetric keys are handled elsewhere."""
    return jwk.get("kty") != "oct" and not _PRIVATE.isdisjoint(jwk)


def public_part(jwk: dict[str, object]) -> dict[str, object]:
    """Return the members of *jwk* that define its public key, without metadata."""
    names = _PUBLIC | {"alg"} if jwk.get("kty") == "AKP" else _PUBLIC  # RFC 9964 section 3: alg is part of the key
    return {name: value for name, value in jwk.items() if name in names}


def _check_purpose(jwk: dict[str, object]) -> None:
    """Reject keys for other purposes than signatures, by `use`, `key_ops`, `alg` and `crv` (RFC 7517 section 4)."""
    if jwk.get("use", "sig") != "sig":
        raise NotASigningKey("use is not sig")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise NotASigningKey("key_ops has no verify")
    alg, crv = jwk.get("alg"), jwk.get("crv")
    if isinstance(alg, str) and alg in _ENCRYPTION_ALGS:
        raise NotASigningKey(f"alg {alg} is for encryption")
    if isinstance(crv, str) and crv in _ENCRYPTION_CURVES:
        raise NotASigningKey(f"crv {crv} is for encryption")


def _validate_rsa(jwk: dict[str, object], alg: str | None) -> ValidatedJwk:
    n, e = _number(jwk, "n"), _number(jwk, "e")
    bits = n.bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise InvalidJwk(f"RSA modulus of {bits} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    if not (3 <= e <= MAX_RSA_EXPONENT and e % 2):
        raise InvalidJwk("RSA exponent is even, too small or too large")
    if n % 2 == 0 or not all(n % p for p in _SMALL_PRIMES):
        raise InvalidJwk("RSA modulus has a small factor")
    if all(n % p in group for p, group in _ROCA.items()):
        raise InvalidJwk("RSA modulus has the ROCA fingerprint (CVE-2017-15361)")
    return ValidatedJwk("RSA", None, alg, bits, _material(jwk, "n", "e"))


def _validate_ec(jwk: dict[str, object], alg: str | None) -> ValidatedJwk:
    crv = _curve(jwk, COORDINATE_BYTES)
    for name in ("x", "y"):
        _exactly(jwk, name, COORDINATE_BYTES[crv])
    bits = 521 if crv == "P-521" else 8 * COORDINATE_BYTES[crv]
    return ValidatedJwk("EC", crv, alg, bits, _material(jwk, "crv", "x", "y"))


def _validate_okp(jwk: dict[str, object], alg: str | None) -> ValidatedJwk:
    crv = _curve(jwk, _OKP_BYTES)
    x = _exactly(jwk, "x", _OKP_BYTES[crv])
    if crv == "Ed25519" and _has_small_order(x):
        raise InvalidJwk("Ed25519 point of small order")
    if crv == "Ed448" and int.from_bytes(x[:56], "little") in _ED448_SMALL_ORDER:
        raise InvalidJwk("Ed448 point of small order")
    if _y(x) >= _FIELD[crv]:
        raise InvalidJwk(f"{crv} point is not in canonical form")  # RFC 8032 sections 5.1.3 and 5.2.3
    return ValidatedJwk("OKP", crv, alg, 256 if crv == "Ed25519" else 456, _material(jwk, "crv", "x"))


def _validate_akp(jwk: dict[str, object], alg: str | None) -> ValidatedJwk:
    if alg is None or alg not in _ML_DSA_BYTES:
        raise InvalidJwk("AKP key without a supported alg")  # RFC 9964 section 3: alg is required
    pub = _exactly(jwk, "pub", _ML_DSA_BYTES[alg])
    return ValidatedJwk("AKP", None, alg, 8 * len(pub), _material(jwk, "alg", "pub"))


def _validate_oct(jwk: dict[str, object], alg: str | None) -> ValidatedJwk:
    secret = _octets(jwk, "k")
    needed = ALGORITHMS[alg].min_secret_bytes if alg else None
    if len(secret) < (needed or MIN_SECRET_BYTES):
        raise InvalidJwk(
            f"secret of {len(secret)} octets, at least {needed or MIN_SECRET_BYTES}"
        )  # RFC 7518 section 3.2
    if hashlib.sha256(secret).hexdigest() in KNOWN_SECRETS:
        raise InvalidJwk("secret is publicly known")
    if len(set(secret)) < MIN_SECRET_BYTES // 4:
        raise InvalidJwk("secret has too few different octets")
    return ValidatedJwk("oct", None, alg, 8 * len(secret), _material(jwk, "k"))


def _octets(jwk: dict[str, object], name: str) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str):
        _invalid(name, "is missing or not a string")
    try:
        return base64url.decode(text.encode("ascii"))
    except ValueError:  # UnicodeEncodeError is one
        _invalid(name, "is not base64url")


def _number(jwk: dict[str, object], name: str) -> int:
    """Read a Base64urlUInt (RFC 7518 section 2): the minimum number of octets."""
    octets = _octets(jwk, name)
    if not octets or octets[0] == 0:
        _invalid(name, "is empty or has a leading zero octet")
    return int.from_bytes(octets, "big")


def _exactly(jwk: dict[str, object], name: str, length: int) -> bytes:
    octets = _octets(jwk, name)
    if len(octets) != length:
        _invalid(name, f"has {len(octets)} octets, not {length}")
    return octets


def _curve(jwk: dict[str, object], curves: Mapping[str, int]) -> str:
    crv = jwk.get("crv")
    if not isinstance(crv, str) or crv not in curves:
        raise InvalidJwk("crv is not a supported signature curve")
    return crv


def _material(jwk: dict[str, object], *names: str) -> dict[str, str]:
    return {"kty": str(jwk["kty"])} | {name: str(jwk[name]) for name in names}


def _invalid(member: str, why: str) -> NoReturn:
    raise InvalidJwk(f"{member} {why}")


_FIELD: Final = {"Ed25519": 2**255 - 19, "Ed448": 2**448 - 2**224 - 1}


def _y(point: bytes) -> int:
    """Return the y coordinate of an encoded Edwards point: all bits but the highest, the sign of x."""
    return int.from_bytes(point, "little") & ~(1 << (8 * len(point) - 1))


def _has_small_order(point: bytes) -> bool:
    """Return whether an encoded Ed25519 point has order 1, 2, 4 or 8: anyone can forge signatures for such a key."""
    p = _FIELD["Ed25519"]
    y = _y(point) % p
    return y in {0, 1, p - 1, _ORDER_8, p - _ORDER_8}


_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_ED448_SMALL_ORDER: Final = frozenset({0, 1, 2**448 - 2**224 - 2})  # the y of orders 4, 1 and 2 (RFC 8032 section 5.2)

# SHA-256 of published secrets that are long enough to be valid, for each way to decode them.
KNOWN_SECRETS: Final[frozenset[str]] = frozenset(
    {
        "c8ecc9361a05e285f04c26f9572131a6deab07e9e2b865053c6f75a4d8bd2b32",  # RFC 7515 A.1, RFC 7517 A.3, RFC 7797
        "73ec74458059c70cae3f0ade8663fe0da1dc4b114ed8cdac75364140b4458a4c",  # RFC 7520 section 3.5
        "2cd6f10056d08e10430ad5658b5565056c93fcde047563f7e53a56452467c050",  # RFC 7520 section 3.6
        "465d9ad5d5528ebe287b5dce4fb51620833d09b290e49ddcc70ca6c4a0aea01b",  # jwt.io, HS256
        "730d21a80e61a8de82d12cb4c0b8057cff5a30e2dec50ce7a773513374f9164a",  # jwt.io, HS384
        "db6833593279d7373592ef70e51f3daf048c04475739f8ed024b0821fd9e7fde",  # jwt.io, HS512
        "570dad43de1af4c925f92c16a68a50936da42b7dd6fdeb24850507a1199aac89",  # FastAPI tutorial, as text
        "4d0f8dec4515d07a611c502f22adb95c854d943d6122fb8f96c9503b42356bac",  # FastAPI tutorial, from hex
        "f9d1bbb2d69379c579135247edda14b365847c5d0f9774ffbea4893537a386e9",  # NestJS documentation
        "fd4dec75abc2df7e4f8776e246ce733d29690230695c4ce8ea7a207eb3a939ab",  # PostgREST tutorial
        "ef1ca7491dee871be5f0e33a6d3f3e631bc8a69136fa49fddf3f3ca5bf3bd714",  # Hasura documentation
        "1453cea2dc3799e9026e42b3e465e455256d5a149582e4c5b92d4c8d604731a2",  # Supabase, self-hosted
        "a064b502e61d27e94b8717290e5e1b32e36720e9fbdf952ec81a84c07128cb37",  # Supabase, local development
        "982f4e3a0216f3923e28c393cb83e8a04499a390d262171cdad4d67c5e383122",  # Directus, self-hosted
        "3354cfcf65c7b2e6840ea6f880aede239750cb1d063950c4e8fd9fbf9ec73a32",  # Spring tutorials (404E6352...), as text
        "136cb1c5a79bc9d943efda382fde1bfa26e0e140ff444657cf7fb056e2977b1c",  # the same, from hex
        "b3f6f5d4f9cee4e99fe5db63234b775a205edc23efbbff87acc308626b5fd24a",  # the same, from base64
        "5df73e1aa59d8f332c2f5fd6ea1c37d0f2266b623ea3c4efe6cb3d577fd6a5e1",  # Spring tutorials (3cfa76ef...), as text
        "1ed956b932e3dd2780cc0e5f63900d6c07d6594685fa6ac8cc7683e3a5d61235",  # the same, from hex
        "175b4f1da19dc4965891dfc41867b7b36f99309e98012f66c7f1028e680a3f73",  # the same, from base64
        "46fed1daaba94dee9934acbff517c676372f89e7501d7065130dc381b5b7ba0a",  # BezKoder's tutorials
        "8359196d483664fdf5b46b119f2c9b7b2f561c25c3a38f316aecd613c6e51663",  # Jason Watmore's tutorials
        "3e5806dd1de53f8dc7eb53e04088837f6f50aebab2b4be3068f56b2e7c3a30df",  # the same, shortened
        "11c3e91482da3607f9e68d1df27224cfce141d2fc442c916e8bad92b003c8fc6",  # ASP.NET Core tutorials
        "46d98e976373e195e501d96d3cb7d7a7e3af4752042a0301ef934a0b988d8d82",  # the same, as first misspelt
        "69024f21e9ad17594dcccd93e87399af24a5426ccfe6108d1787f0335966abc4",  # wallarm/jwt-secrets
        "5fdf298e9a0ca254d541fed33d30e189e7f24c155d8277b7bb5ab4af58486768",  # wallarm/jwt-secrets
        "f6f8e93c7bc3a1db4fb2ca7667a51d3f86b6a00046adf682a1ede09bc55cf438",  # wallarm/jwt-secrets
        "abfe081d992e568c7d9bb7f5a138fded1e0b5df1d04560c015067dd04ca4e97e",  # wallarm/jwt-secrets
    }
)
