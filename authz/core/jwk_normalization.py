"""Convert common non-standard forms of a JWK into the standard form (RFC 7517, RFC 7518 section 6).

Rules of this file:
1. Only a form with exactly one meaning is converted, and each conversion adds a note. All other members stay as they
   are; `jwk_validation` rejects them if they are invalid.
2. A conversion never changes the key itself: numbers keep their value, octet strings their content. The thumbprint
   (RFC 7638) is that of the standard form.
3. This is for key sets of trusted issuers only. Tokens, which anyone can write, are parsed strictly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from authz.core import base64url

COORDINATE_BYTES: Final[Mapping[str, int]] = {"P-256": 32, "P-384": 48, "P-521": 66, "secp256k1": 32}

# The notes, in the order of the conversions. For members, their names are appended.
NULL_OR_EMPTY: Final = "null or empty, treated as absent"
WHITE_SPACE: Final = "base64 with white space"
STANDARD_ALPHABET: Final = "base64 of the standard alphabet, not base64url"
PADDED: Final = "base64 with padding"
UNUSED_BITS: Final = "base64 with unused bits set"
LEADING_ZEROS: Final = "leading zero octets removed"
COORDINATE_LENGTH: Final = "adjusted to the length of the curve"
USE_READ_AS_SIG: Final = "read as sig"
KEY_OPS_AS_TEXT: Final = "key_ops is a string, not a list"
KEY_OPS_SIGN: Final = "key_ops has sign, read as verify: the key is public"
KEY_OPS_CASE: Final = "key_ops in another letter case"

# RFC 7517 section 4, RFC 7518 section 6, RFC 9964 section 3: the names that a note may contain.
_REGISTERED: Final = (
    *("kty", "use", "key_ops", "alg", "kid", "x5u", "x5c", "x5t", "x5t#S256", "crv"),
    *("n", "e", "x", "y", "pub", "k", "d", "p", "q", "dp", "dq", "qi", "oth", "priv"),
)
_SIGNING_USES: Final = frozenset({"sig", "jwt-svid"})  # the latter: SPIFFE trust domain and bundle, section 4.2.2
_OCTET_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("n", "e"),
    "EC": ("x", "y"),
    "OKP": ("x",),
    "AKP": ("pub",),
    "oct": ("k",),
}
_WHITE_SPACE: Final = re.compile(r"[ \t\r\n]+")
_TO_URL: Final = str.maketrans("+/", "-_")
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True, slots=True)
class NormalizedJwk:
    """The members of a JWK in standard form, and a note for each conversion."""

    members: dict[str, object]
    notes: tuple[str, ...] = ()


def normalize_jwk(jwk: Mapping[str, object]) -> NormalizedJwk:
    """Convert the members of *jwk*; those that cannot be converted stay as they are. Never raises."""
    members = {name: value for name, value in jwk.items() if not is_empty(value)}
    noted: dict[str, list[str]] = {NULL_OR_EMPTY: [name for name in _REGISTERED if name in jwk and name not in members]}
    kty = members.get("kty")
    for name in _OCTET_MEMBERS.get(kty, ()) if isinstance(kty, str) else ():
        text = members.get(name)
        if isinstance(text, str):
            members[name] = _normalize_octets(text, name, _length_rule(kty, members.get("crv")), noted)
    notes = [f"{note}: {', '.join(names)}" for note, names in noted.items() if names]
    return NormalizedJwk(members, (*notes, *_normalize_use(members), *_normalize_key_ops(members)))


def is_empty(value: object) -> bool:
    """Return whether *value* is null, an empty string, or an array or object with only such values."""
    match value:
        case None:
            return True
        case str():
            return not value
        case list():
            return all(map(is_empty, value))
        case dict():
            return all(map(is_empty, value.values()))
        case _:
            return False


def decode_base64(text: str) -> tuple[bytes, list[str]]:
    """Decode base64 of either alphabet, padded or not, on one or several lines; add a note for each deviation.

    Raises ValueError.
    """
    notes = []
    if text != (packed := _WHITE_SPACE.sub("", text)):
        notes.append(WHITE_SPACE)
    if packed != (url := packed.translate(_TO_URL)):
        notes.append(STANDARD_ALPHABET)
    if url != (bare := url.rstrip("=")):
        notes.append(PADDED)
    data = bare.encode("ascii")  # UnicodeEncodeError is a ValueError
    try:
        return base64url.decode(data), notes
    except ValueError:
        octets = base64url.decode(_without_unused_bits(data))
    return octets, [*notes, UNUSED_BITS]


_LengthRule = Callable[[bytes], tuple[bytes, str | None]]


def _normalize_octets(text: str, name: str, fix_length: _LengthRule, noted: dict[str, list[str]]) -> str:
    """Return the base64url of a member that holds octets, and add a note for each deviation."""
    try:
        octets, notes = decode_base64(text)
    except ValueError:
        return text
    fixed, length_note = fix_length(octets)
    for note in (*notes, *([length_note] if length_note else ())):
        noted.setdefault(note, []).append(name)
    return base64url.encode(fixed).decode()


def _length_rule(kty: object, crv: object) -> _LengthRule:
    """Return the function that gives the octets of such a key their required length."""
    if kty == "RSA":
        return _as_uint
    length = COORDINATE_BYTES.get(crv) if kty == "EC" and isinstance(crv, str) else None
    if length is None:
        return lambda octets: (octets, None)  # octet strings (RFC 8037, RFC 9964): a zero octet may be significant
    return lambda octets: _as_coordinate(octets, length)


def _as_uint(octets: bytes) -> tuple[bytes, str | None]:
    """Return a Base64urlUInt (RFC 7518 section 2) without leading zeros. Zero stays as it is and is rejected later."""
    fewest = octets.lstrip(b"\0")
    return (octets, None) if fewest in (octets, b"") else (fewest, LEADING_ZEROS)


def _as_coordinate(octets: bytes, length: int) -> tuple[bytes, str | None]:
    """Return a coordinate with *length* octets (RFC 7518 section 6.2.1.2). A longer one is rejected later."""
    padded = octets.lstrip(b"\0").rjust(length, b"\0")
    return (octets, None) if padded == octets or len(padded) != length else (padded, COORDINATE_LENGTH)


def _without_unused_bits(data: bytes) -> bytes:
    """Clear the unused bits of the last character (RFC 4648 section 3.5). Raises ValueError."""
    unused = {2: 4, 3: 2}.get(len(data) % 4)
    if unused is None:
        raise ValueError("no unused bits")
    last = _ALPHABET.index(data[-1:]) >> unused << unused  # ValueError for other characters
    return data[:-1] + _ALPHABET[last : last + 1]


def _normalize_use(members: dict[str, object]) -> list[str]:
    """Accept `use` in another letter case, as a list of one, or as SPIFFE's `jwt-svid`."""
    use = members.get("use")
    word = use[0] if isinstance(use, list) and len(use) == 1 else use
    if use == "sig" or not isinstance(word, str) or word.lower() not in _SIGNING_USES:
        return []
    members["use"] = "sig"
    return [f"use {'[sig]' if isinstance(use, list) else word} {USE_READ_AS_SIG}"]


def _normalize_key_ops(members: dict[str, object]) -> list[str]:
    """Accept `key_ops` in another letter case or as a string, and `sign` instead of `verify`."""
    key_ops, notes = members.get("key_ops"), []
    if isinstance(key_ops, str):
        notes.append(KEY_OPS_AS_TEXT)
        key_ops = [key_ops]
    if not isinstance(key_ops, list):
        return []
    operations = [operation.lower() for operation in key_ops if isinstance(operation, str)]
    if not {"verify", "sign"}.intersection(operations):
        return []
    if "verify" not in operations:
        notes.append(KEY_OPS_SIGN)
    elif "verify" not in key_ops:
        notes.append(KEY_OPS_CASE)
    if notes:
        members["key_ops"] = ["verify"]
    return notes
