"""Changes to bytes, for where no coverage guides: seeded, so that a run can be had again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
_WORDS: Final = [
    *(b".", b"=", b"-", b"_", b",", b";", b"%", b"%2F", b"%2e", b"%00", b"%25", b"//", b"/../", b"\\", b" ", b"\t"),
    *(b"\n", b"\x00", b"\x7f", b"\x80", b"\xff", b"\xc0\xaf", "é".encode(), "\u200b".encode(), b"\xed\xa0\x80"),
    *(b'"', b"{", b"}", b"[", b"]", b":", b"null", b"true", b"1e400", b"NaN", b"-0", b"\\u0000", b"\\ud800"),
    *(b'"alg"', b'"none"', b'"kid"', b'"crit":[]', b'"kty"', b'"oct"', b'"d":"AA"', b"Bearer ", b"t=", b"AAAA", b"eyJ"),
]


def seeds(target: str) -> list[bytes]:
    """Read the corpus of a target."""
    return [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]


def mutants(corpus: list[bytes], random: Random) -> Iterator[bytes]:
    """Change one of the corpus, a few times over, without end."""
    while True:
        data = bytearray(random.choice(corpus))
        for _ in range(random.choice([1, 1, 1, 2, 3, 5])):
            _change(data, corpus, random)
        yield bytes(data)


def _change(data: bytearray, corpus: list[bytes], random: Random) -> None:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.choice([1, 1, 2, 4, 16]))
    match random.randrange(6):
        case 0 if at < len(data):
            data[at] ^= 1 << random.randrange(8)
        case 1:
            data[at:end] = b""
        case 2:
            data[at:at] = data[at:end]
        case 3:
            data[at:end] = random.choice(_WORDS)
        case 4:
            other = random.choice(corpus)
            cut = random.randrange(len(other) + 1)
            data[at:] = other[cut:]
        case _:
            data[at:at] = random.choice(_WORDS)
