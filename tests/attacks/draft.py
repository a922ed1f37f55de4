"""A token in the making, and the small changes that turn a good one into something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from jwcrypto.jwa import JWA

from authz.core import base64url
from authz.demo.signing import SigningKey
from tests.fixtures import A_EC, A_RSA, CLAIMS, changed

Members = dict[str, Any]


def write_json(members: object) -> bytes:
    """Write JSON as an honest issuer does."""
    return json.dumps(members, separators=(",", ":")).encode()


def sign(key: SigningKey, signing_input: bytes) -> bytes:
    """Sign as the key is meant to."""
    arithmetic: Any = JWA.signing_alg(key.algorithm)
    signature: bytes = arithmetic.sign(key.jwk, signing_input)
    return signature


@dataclass(slots=True)
class Draft:
    """A token before it is written. A header or payload is signed as it was changed; a text is changed afterwards."""

    key: SigningKey
    random: Random
    header: Members = field(default_factory=dict)
    payload: Members = field(default_factory=dict)
    write_header: Callable[[Members], bytes] = write_json
    write_payload: Callable[[Members], bytes] = write_json
    encode_header: Callable[[bytes], bytes] = base64url.encode
    encode_payload: Callable[[bytes], bytes] = base64url.encode
    sign: Callable[[SigningKey, bytes], bytes] = sign
    keys: list[object] = field(default_factory=list)
    text: Callable[[str], str] = str

    def __post_init__(self) -> None:
        """Begin with a good token, and a set of its key between two others."""
        self.header = changed(self.key.header(), {"typ": "JWT"})
        self.payload = dict(CLAIMS)
        others = [key for key in (A_RSA, A_EC) if key is not self.key]
        self.keys = [others[0].public(), self.key.public(), *(key.public() for key in others[1:])]

    def public(self) -> Members:
        """The token's own key in the set, to be changed in place."""
        return next(jwk for jwk in self.keys if isinstance(jwk, dict) and jwk.get("kid") == self.key.kid)

    def token(self) -> str:
        """Write and sign the token."""
        head = self.encode_header(self.write_header(self.header))
        signing_input = head + b"." + self.encode_payload(self.write_payload(self.payload))
        signature = base64url.encode(self.sign(self.key, signing_input))
        return self.text((signing_input + b"." + signature).decode("latin-1"))


Change = Callable[[Draft], None]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change, named by what it makes of the token. *fits* names the algorithms it makes sense for, all if empty.

    *area* is the part that is changed: two mutations go together where their areas differ.
    """

    name: str
    area: str
    change: Change
    fits: frozenset[str] = frozenset()


def set_header(**changes: object) -> Change:
    """Change members of the header."""

    def change(draft: Draft) -> None:
        draft.header = changed(draft.header, changes)

    return change


def set_claims(changes: Mapping[str, object]) -> Change:
    """Change claims."""

    def change(draft: Draft) -> None:
        draft.payload = changed(draft.payload, changes)

    return change


def rewrite_header(write: Callable[[bytes], bytes]) -> Change:
    """Change the header's JSON."""

    def change(draft: Draft) -> None:
        draft.write_header = lambda members: write(write_json(members))

    return change


def rewrite_payload(write: Callable[[bytes], bytes]) -> Change:
    """Change the payload's JSON."""

    def change(draft: Draft) -> None:
        draft.write_payload = lambda members: write(write_json(members))

    return change


def rewrite_text(write: Callable[[str, Random], str]) -> Change:
    """Change the finished token."""

    def change(draft: Draft) -> None:
        draft.text = lambda text: write(text, draft.random)

    return change


def one_of(*changes: Change) -> Change:
    """Make one of several changes that are expected to be evaluated alike."""

    def change(draft: Draft) -> None:
        draft.random.choice(changes)(draft)

    return change


EC_ORDERS: Final = ("ES256", "ES384", "ES512", "ES256K")


def insert(start: bytes) -> Callable[[bytes], bytes]:
    """Put members at the beginning of an object."""
    return lambda data: data.replace(b"{", b"{" + start, 1)


def cut(text: bytes) -> bytes:
    """Leave out the last octet."""
    return text[:-1]
