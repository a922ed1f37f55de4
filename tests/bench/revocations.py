"""Measure a million revocations: the memory that they take, and what a check of a token against them costs.

`python -m tests.bench.revocations` prints the memory of the process before and after, the time of an entry, and the
time of a check: without any source, and of a token that no entry names, for each kind of entry and for three together.
The digest of a token that was seen before is kept with it; it is measured for a new token too.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from authz.core.claims import Claims
from authz.core.key import Key
from authz.core.revocation import RevocationEntry, RevocationSource, RevocationTable, RevokedBy, check_revoked
from authz.core.token import parse_token
from authz.demo.signing import SigningKey
from tests.fixtures import ISSUER_A, A, T, key_set, mint

ENTRIES: Final = 1_000_000
CHECKS: Final = 200_000
ROUNDS: Final = 5
TOKEN: Final = parse_token(mint())
KEY: Final[Key] = key_set(SigningKey.create("ES256", kid="bench")).keys[0]
MEMBERS: Final[Mapping[str, object]] = {
    "iss": A, "sub": "0b7b5f30-7e8c-4b9a-9d0e-3f3a1d9c2f11", "jti": "a9c1d6a0-43f4-44f5-8d30-0d8b8f3f6f0a",
    "sid": "f6f0a9c1-d6a0-43f4-44f5-8d300d8b8f3f", "azp": "shop", "iat": T,
}  # fmt: skip
CLAIMS: Final = Claims(MEMBERS, b"", frozenset(), {})


def resident() -> float:
    """Return the resident memory of this process in MB."""
    gc.collect()
    fields = Path("/proc/self/status").read_text(encoding="ascii").split("VmRSS:")[1].split()
    return int(fields[0]) * 1024 / 1e6


def fill(*kinds: RevokedBy, entries: int = ENTRIES, before: float | None = None) -> RevocationTable:
    """Revoke as much of each of *kinds* as makes *entries* together."""
    table = RevocationTable(max_entries=entries)
    for number in range(entries):
        by = kinds[number % len(kinds)]
        table.add(
            RevocationEntry(
                by, A, str(uuid.UUID(int=number * 0x9E3779B97F4A7C15 % 2**128)), before, T + 86_400.0 + number % 3600
            )
        )
    return table


def clock(run: Callable[[], object]) -> float:
    """Return the nanoseconds of one *run*: the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        for _ in range(CHECKS):
            run()
        best = min(best, (time.process_time_ns() - began) / CHECKS)
    return best


def forget_digest() -> None:
    """Make the token a new one: its digest must be computed again."""
    object.__setattr__(TOKEN, "_signing_digest", None)


def check(table: RevocationTable, *, new: bool = False) -> float:
    """Return the nanoseconds of a check of a token that no entry names; of a *new* one each time, or of the same."""
    sources = (RevocationSource("bench", table),)

    def check_new() -> None:
        forget_digest()
        check_revoked(sources, CLAIMS, ISSUER_A, TOKEN, KEY, T)

    return clock(check_new if new else lambda: check_revoked(sources, CLAIMS, ISSUER_A, TOKEN, KEY, T))


def main() -> None:
    """Print one line for each figure."""
    nothing: tuple[RevocationSource, ...] = ()
    empty = clock(lambda: None)
    print(f"no source: {clock(lambda: nothing and None) - empty:.0f} ns a check")
    before, began = resident(), time.process_time()
    table = fill(RevokedBy.TOKEN)
    seconds = time.process_time() - began
    print(f"{len(table):,} entries: {resident() - before:.0f} MB, {seconds / ENTRIES * 1e6:.1f} us to add one")
    print(f"by jti: {check(table) - empty:.0f} ns a check")
    del table
    for kind in (RevokedBy.SESSION, RevokedBy.SUBJECT, RevokedBy.CLIENT, RevokedBy.KEY):
        print(f"by {kind.value}: {check(fill(kind, entries=100_000)) - empty:.0f} ns a check")
    table = fill(RevokedBy.DIGEST)
    seen = check(table)
    forgetting = clock(forget_digest)
    print(f"by digest: {seen - empty:.0f} ns a check, {check(table, new=True) - forgetting:.0f} ns of a new token")
    del table
    three = fill(RevokedBy.TOKEN, RevokedBy.SESSION, RevokedBy.SUBJECT, before=T)
    print(f"by jti, sid and sub: {check(three) - empty:.0f} ns a check")


if __name__ == "__main__":
    main()
