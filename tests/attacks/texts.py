"""What can be done to the text of a finished token."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Final

from authz.core import base64url
from tests.attacks.draft import (
    Change,
    Draft,
    Mutation,
    rewrite_text,
    set_claims,
)
from tests.fixtures import A_EC, mint


def _pad(raw: bytes) -> bytes:
    return base64url.encode(raw + b" " * (1 - len(raw) % 3)) + b"=="


def _anywhere(*texts: str) -> Change:
    """Put one of *texts* somewhere inside one of the three segments, so that none of their characters is lost."""

    def write(text: str, random: Random) -> str:
        place = random.randrange(1, len(text))
        return text[:place] + random.choice(texts) + text[place:]

    return rewrite_text(write)


def _segment(position: int, change: Callable[[str], str]) -> Change:
    def write(text: str, _: Random) -> str:
        parts = text.split(".")
        parts[position] = change(parts[position])
        return ".".join(parts)

    return rewrite_text(write)


def _unused_bits(position: int) -> Change:
    """Set bits that encode nothing: the same octets in another spelling."""

    def change(draft: Draft) -> None:
        encode = lambda raw: base64url.encode(raw + b" " * ((1 - len(raw)) % 3))  # noqa: E731 - four bits are unused
        if position == 0:
            draft.encode_header = encode
        else:
            draft.encode_payload = encode
        _segment(position, lambda part: part[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}[part[-1]])(draft)

    return change


def _unused_bits_of_signature(text: str, _: Random) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]


def _as_json(flat: bool) -> Change:  # noqa: FBT001 - one of two shapes
    def write(text: str, _: Random) -> str:
        head, payload, signature = text.split(".")
        one = {"protected": head, "signature": signature, "header": {"x": "unprotected"}}
        return json.dumps({"payload": payload, **one} if flat else {"payload": payload, "signatures": [one]})

    return rewrite_text(write)


def _sign_padded(position: int) -> Change:
    """Sign over segments with padding, as an issuer with the wrong encoder would."""

    def change(draft: Draft) -> None:
        if position == 0:
            draft.encode_header = _pad
        else:
            draft.encode_payload = _pad

    return change


def _other_alphabet(draft: Draft) -> None:
    set_claims({"x": "????????"})(draft)  # whatever stands before it, there is a _ in its encoding
    rewrite_text(lambda text, _: text.replace("-", "+").replace("_", "/"))(draft)


_OTHER: Final = mint(A_EC)

TEXT: Final[dict[str, Change]] = {
    "text: padding after the header": _segment(0, lambda part: part + "=" * (-len(part) % 4 or 4)),
    "text: padding after the payload": _segment(1, lambda part: part + "=" * (-len(part) % 4 or 4)),
    "text: padding after the signature": _segment(2, lambda part: part + "=" * (-len(part) % 4 or 4)),
    "text: signed padding in the header": _sign_padded(0),
    "text: signed padding in the payload": _sign_padded(1),
    "text: line break, tab or space inside": _anywhere("\n", "\r", "\t", " ", "\v", "\f"),
    "text: line break at the end": rewrite_text(lambda text, random: text + random.choice("\n\r\t ")),
    "text: NUL inside": _anywhere("\x00"),
    "text: a foreign character inside": _anywhere("!", "*", "~", "%", "$", "(", "\x7f", "@"),
    "text: four foreign characters inside": _segment(2, lambda part: part[:8] + "!!!!" + part[8:]),
    "text: a character beyond ASCII inside": _anywhere("é", "\u200b", "\uff21", "\ufeff", "漢", "\u00a0"),
    "text: a percent escape inside": _anywhere("%2e", "%0a", "%41"),
    "text: the other base64 alphabet": _other_alphabet,
    "text: unused bits in the header": _unused_bits(0),
    "text: unused bits in the payload": _unused_bits(1),
    "text: a segment more": rewrite_text(lambda text, random: text + random.choice([".", ".AAAA", "..x"])),
    "text: a segment less": rewrite_text(lambda text, random: ".".join(text.split(".")[: random.randrange(3)])),
    "text: an empty header": _segment(0, lambda _: ""),
    "text: an empty payload": _segment(1, lambda _: ""),
    "text: an empty signature": _segment(2, lambda _: ""),
    "text: a letter in the other case": rewrite_text(lambda text, _: text[:-9].swapcase() + text[-9:]),
    "text: another token behind it": rewrite_text(lambda text, random: text + random.choice(["", " ", ","]) + _OTHER),
    "text: another token's header": rewrite_text(lambda text, _: _OTHER.split(".")[0] + "A." + text.partition(".")[2]),
    "text: JSON serialisation, flattened": _as_json(flat=True),
    "text: JSON serialisation, general": _as_json(flat=False),
    "text: quoted": rewrite_text(lambda text, random: random.choice(['"{}"', "<{}>", "b'{}'"]).format(text)),
    "text: longer than 16 KiB": set_claims({"padding": "x" * 13_000}),
}

UNUSED_BITS_OF_SIGNATURE: Final = Mutation(
    "text: unused bits in the signature",
    "text",
    rewrite_text(_unused_bits_of_signature),
    # 256, 64, 96 and 132 octets: only these lengths that are no multiple of three leave bits unused.
    frozenset({"RS256", "PS256", "PS512", "ES256", "ES256K", "EdDSA", "Ed25519"}),
)
MUTATIONS: Final = [*(Mutation(name, "text", change) for name, change in TEXT.items()), UNUSED_BITS_OF_SIGNATURE]
