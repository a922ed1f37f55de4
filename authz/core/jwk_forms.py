"""The forms in which issuers publish one and the same key, read into the canonical one (RFC 7517, RFC 7518 section 6).

Rules of this file:
1. Only a form with one meaning is read, and each leaves a note. Whatever else a JWK says stays as it is, for
   `jwk_validation` to refuse.
2. No reading changes which key is meant: numbers keep their value, octets their order. A thumbprint (RFC 7638) is of
   the canonical form.
3. Tokens are never read here: what a stranger can write has one form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from authz.core import base64url

COORDINATE_BYTES: Final[Mapping[str, int]] = {"P-256": 32, "P-384": 48, "P-521": 66, "secp256k1": 32}

# What is noted, in the order of the reading. Where members are concerned, their names follow.
NULL_OR_EMPTY: Final = "null or empty, taken as absent"
WHITE_SPACE: Final = "base64 with white space"
STANDARD_ALPHABET: Final = "base64 of the standard alphabet, not base64url"
PADDED: Final = "base64 with padding"
UNUSED_BITS: Final = "base64 with unused bits set"
LEADING_ZEROS: Final = "leading zero octets dropped"
COORDINATE_LENGTH: Final = "brought to the length of the curve"
USE_READ_AS_SIG: Final = "read as sig"
KEY_OPS_AS_TEXT: Final = "key_ops is a text, not a list"
KEY_OPS_SIGN: Final = "key_ops names sign, read as verify: the key is public"
KEY_OPS_CASE: Final = "key_ops in another case"

# RFC 7517 section 4, RFC 7518 section 6, RFC 9964 section 3: the names that a note repeats. Others could be any text.
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
class CanonicalJwk:
    """The members of a JWK in their canonical form, and a note for each form that was not."""

    members: dict[str, object]
    notes: tuple[str, ...] = ()


def canonical(jwk: Mapping[str, object]) -> CanonicalJwk:
    """Read the forms of *jwk* that have one meaning. Total: what cannot be read stays as it is."""
    members = {name: value for name, value in jwk.items() if not is_empty(value)}
    noted: dict[str, list[str]] = {NULL_OR_EMPTY: [name for name in _REGISTERED if name in jwk and name not in members]}
    kty = members.get("kty")
    for name in _OCTET_MEMBERS.get(kty, ()) if isinstance(kty, str) else ():
        text = members.get(name)
        if isinstance(text, str):
            members[name] = _read_octet_member(text, name, _reshape(kty, members.get("crv")), noted)
    notes = [f"{note}: {', '.join(names)}" for note, names in noted.items() if names]
    return CanonicalJwk(members, (*notes, *_read_use(members), *_read_key_ops(members)))


def is_empty(value: object) -> bool:
    """Tell whether *value* says nothing: null, a text, list or object of nothing, or a list of such alone."""
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
    """Decode base64 of either alphabet, padded or not, over several lines or one; with notes on what is no base64url.

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


_Reshape = Callable[[bytes], tuple[bytes, str | None]]


def _read_octet_member(text: str, name: str, reshape: _Reshape, noted: dict[str, list[str]]) -> str:
    """Write a member that stands for octets canonically, and note how it was written."""
    try:
        octets, notes = decode_base64(text)
    except ValueError:
        return text
    shaped, note = reshape(octets)
    for found in (*notes, *([note] if note else ())):
        noted.setdefault(found, []).append(name)
    return base64url.encode(shaped).decode()


def _reshape(kty: object, crv: object) -> _Reshape:
    """Return how the octets of such a key are brought to the one length that they may have."""
    if kty == "RSA":
        return _as_uint
    length = COORDINATE_BYTES.get(crv) if kty == "EC" and isinstance(crv, str) else None
    if length is None:
        return lambda octets: (octets, None)  # strings of octets (RFC 8037, RFC 9964): a lost one cannot be told
    return lambda octets: _as_coordinate(octets, length)


def _as_uint(octets: bytes) -> tuple[bytes, str | None]:
    """Base64urlUInt (RFC 7518 section 2): the fewest octets. Zero stays as it is, to be refused."""
    fewest = octets.lstrip(b"\0")
    return (octets, None) if fewest in (octets, b"") else (fewest, LEADING_ZEROS)


def _as_coordinate(octets: bytes, length: int) -> tuple[bytes, str | None]:
    """A coordinate (RFC 7518 section 6.2.1.2): as many octets as the field. One too large stays, to be refused."""
    padded = octets.lstrip(b"\0").rjust(length, b"\0")
    return (octets, None) if padded == octets or len(padded) != length else (padded, COORDINATE_LENGTH)


def _without_unused_bits(data: bytes) -> bytes:
    """Clear the bits of the last character that stand for no octet (RFC 4648 section 3.5). Raises ValueError."""
    unused = {2: 4, 3: 2}.get(len(data) % 4)
    if unused is None:
        raise ValueError("no unused bits")
    last = _ALPHABET.index(data[-1:]) >> unused << unused  # a character that is not there is a ValueError
    return data[:-1] + _ALPHABET[last : last + 1]


def _read_use(members: dict[str, object]) -> list[str]:
    """Take `use` in another case, in a list of one, or in SPIFFE's word, for what it says."""
    use = members.get("use")
    word = use[0] if isinstance(use, list) and len(use) == 1 else use
    if use == "sig" or not isinstance(word, str) or word.lower() not in _SIGNING_USES:
        return []
    members["use"] = "sig"
    return [f"use {'[sig]' if isinstance(use, list) else word} {USE_READ_AS_SIG}"]


def _read_key_ops(members: dict[str, object]) -> list[str]:
    """Take `key_ops` in another case or as a text for what it says, and what signs for what verifies."""
    given, notes = members.get("key_ops"), []
    if isinstance(given, str):
        notes.append(KEY_OPS_AS_TEXT)
        given = [given]
    if not isinstance(given, list):
        return []
    operations = [operation.lower() for operation in given if isinstance(operation, str)]
    if not {"verify", "sign"}.intersection(operations):
        return []
    if "verify" not in operations:
        notes.append(KEY_OPS_SIGN)
    elif "verify" not in given:
        notes.append(KEY_OPS_CASE)
    if notes:
        members["key_ops"] = ["verify"]
    return notes
