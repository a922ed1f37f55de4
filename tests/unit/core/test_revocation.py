"""Proves authz.core.revocation: what is remembered, for how long, and that no event makes room by losing another.

The decisions are in tests/cases/revocation.py.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from authz.core import base64url
from authz.core.authorize import authorize
from authz.core.reasons import Reason
from authz.core.revocation import AddResult, RevocationEntry, RevocationSource, RevocationTable, RevokedBy, token_digest
from authz.core.snapshot import Snapshot
from authz.core.token import parse_token
from tests.cases.case import Case
from tests.cases.proofs import BOUND, JKT, proof
from tests.cases.proofs import world as with_proofs
from tests.cases.revocation import CASES
from tests.fixtures import A_EC, A, T, decide, make_snapshot, mint

P256: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # the order of its group


def revoke(by: RevokedBy, value: str, *, before: float | None = None, until: float = math.inf) -> RevocationEntry:
    """Write an entry about issuer A."""
    return RevocationEntry(by, A, value, before, until)


def world(*entries: RevocationEntry, snapshot: Snapshot | None = None) -> Snapshot:
    """Return a snapshot with one source of these entries."""
    source = RevocationSource("operator", RevocationTable(entries, max_entries=100))
    return replace(snapshot or make_snapshot(), revocations=(source,))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_an_entry_says_of_a_token(case: Case) -> None:
    """The decision table, here for the coverage of the core by its own tests."""
    assert authorize(case.request, case.snapshot, case.now, case.facts).reason is case.reason


def test_an_event_counts_from_the_next_request_on() -> None:
    """A snapshot in use has what is added to its table: no new one is needed for an event."""
    table, token = RevocationTable(max_entries=2), mint(sid="s1")
    snapshot = make_snapshot(revocations=(RevocationSource("logout", table),))
    assert decide(token, snapshot=snapshot).reason is Reason.AUTHENTICATED
    table.add(revoke(RevokedBy.SESSION, "s1"))
    decision = decide(token, snapshot=snapshot)
    assert (decision.reason, decision.detail) == (Reason.TOKEN_REVOKED, "revoked by its sid, says logout")


def test_a_full_table_refuses_and_forgets_nothing() -> None:
    """A flood of events cannot push out one that came before it; what is there already is not refused."""
    table = RevocationTable([revoke(RevokedBy.SUBJECT, "eve", before=T)], max_entries=3)
    accepted = [table.add(revoke(RevokedBy.TOKEN, str(number))) for number in range(1000)]
    assert (accepted.count(AddResult.NEW), accepted.count(AddResult.FULL), len(table)) == (2, 998, 3)
    assert table.find(A, {"sub": "eve", "iat": T}, "", None, T) is RevokedBy.SUBJECT
    assert table.add(revoke(RevokedBy.SUBJECT, "eve", before=T)) is AddResult.KNOWN
    assert table.add(revoke(RevokedBy.SUBJECT, "eve", before=T + 60)) is AddResult.NEW
    assert table.find(A, {"sub": "eve", "iat": T + 60}, "", None, T) is RevokedBy.SUBJECT


def test_an_entry_is_extended_and_never_shortened() -> None:
    """An earlier logout that comes late takes nothing back, in whatever order events arrive."""
    table = RevocationTable(max_entries=3)
    for order in (1, -1):
        table = RevocationTable(max_entries=3)
        for entry in [
            revoke(RevokedBy.SUBJECT, "eve", before=T, until=T + 7200),
            revoke(RevokedBy.SUBJECT, "eve", before=T - 60, until=T + 3600),
        ][::order]:
            table.add(entry)
        assert table.find(A, {"sub": "eve", "iat": T}, "", None, T + 7199) is RevokedBy.SUBJECT
        assert table.find(A, {"sub": "eve", "iat": T + 1}, "", None, T) is None
    table.add(revoke(RevokedBy.SUBJECT, "eve"))
    table.add(revoke(RevokedBy.SUBJECT, "eve", before=T))
    assert table.find(A, {"sub": "eve", "iat": T + 10**6}, "", None, T + 10**7) is RevokedBy.SUBJECT


def test_entries_end() -> None:
    """They are forgotten after their time, an hour late at most, and the room is free again."""
    ends = {"a": T + 60.0, "b": T + 7260.0, "c": math.inf}
    table = RevocationTable([revoke(RevokedBy.TOKEN, jti, until=at) for jti, at in ends.items()], max_entries=3)
    assert table.evict_expired(T + 59) == 0
    assert table.find(A, {"jti": "a"}, "", None, T + 59) is RevokedBy.TOKEN
    assert table.find(A, {"jti": "a"}, "", None, T + 3660) is None
    assert table.evict_expired(T + 3660) == 1
    assert table.counts() == {"jti": 2, "digest": 0, "sid": 0, "sub": 0, "client": 0, "key": 0, "email": 0}
    assert table.add(revoke(RevokedBy.TOKEN, "d", until=T + 9999)) is AddResult.NEW
    assert table.evict_expired(T + 10**9) == 2
    assert table.find(A, {"jti": "c"}, "", None, T + 10**9) is RevokedBy.TOKEN


def test_what_a_name_says_is_looked_up_and_replaced() -> None:
    """An operator sees its times, until it ends; if one of several entries is taken back, the others count."""
    long, short = (revoke(RevokedBy.SUBJECT, "eve", before=T + each, until=T + 3600.0 * each) for each in (2, 1))
    table = RevocationTable([long, short, revoke(RevokedBy.TOKEN, "one")], max_entries=3)
    assert table.look_up(RevokedBy.SUBJECT, A, "eve", T) == (T + 2, T + 7200)
    assert table.look_up(RevokedBy.SUBJECT, A, "eve", T + 7200) is None
    assert table.look_up(RevokedBy.TOKEN, A, "one", T) == (None, math.inf)
    assert table.look_up(RevokedBy.SUBJECT, A, "mallory", T) is None
    table.replace_target(long, [short])
    assert table.look_up(RevokedBy.SUBJECT, A, "eve", T) == (T + 1, T + 3600)
    table.replace_target(short, [])
    table.replace_target(short, [])
    assert (table.look_up(RevokedBy.SUBJECT, A, "eve", T), len(table)) == (None, 1)
    table.replace_target(short, [short])
    assert table.look_up(RevokedBy.SUBJECT, A, "eve", T) == (T + 1, T + 3600)
    assert table.find(A, {"sub": "eve", "iat": T}, "", None, T) is RevokedBy.SUBJECT


def test_a_digest_is_computed_once_for_a_token() -> None:
    """A token that is used again has it; it is that of what is signed, as any program computes it."""
    text = mint()
    token = parse_token(text)
    assert token_digest(token) == hashlib.sha256(text.rpartition(".")[0].encode()).hexdigest()
    assert token_digest(token) is token_digest(token)


def test_every_entry_of_many_is_found_and_no_other() -> None:
    """Of 50,000 entries each is found by its issuer and value alone, whatever else is there."""
    entries = [revoke(RevokedBy.TOKEN, f"jti-{number}", until=T + 60) for number in range(50_000)]
    table = RevocationTable(entries, max_entries=50_000)
    assert all(table.find(A, {"jti": entry.value}, "", None, T) for entry in entries)
    assert not any(table.find(f"{A}/", {"jti": entry.value}, "", None, T) for entry in entries)
    assert not any(table.find(A, {"jti": f"{entry.value}x"}, "", None, T) for entry in entries)
    assert not any(table.find(A, {"sid": entry.value}, "", None, T) for entry in entries)


class _Collides(str):
    """A text whose hash is that of another."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash("revoked")

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)


def test_a_token_whose_hash_collides_is_not_revoked() -> None:
    """The first hash alone does not decide; of 40 texts with the same one, one in 128 passes the second check."""
    table = RevocationTable([revoke(RevokedBy.TOKEN, "revoked")], max_entries=1)
    found = [bool(table.find(A, {"jti": _Collides(f"other {number}")}, "", None, T)) for number in range(40)]
    assert sum(found) <= 4
    kept = RevocationTable([revoke(RevokedBy.TOKEN, "revoked", before=T)], max_entries=1)
    assert kept.add(revoke(RevokedBy.TOKEN, _Collides("other 1"))) is AddResult.NEW
    assert len(kept) == 1


@pytest.mark.parametrize("instant", [0.0, T + 0.5, 1e11, 4e9])
def test_instants_are_rounded_towards_more_revoked(instant: float) -> None:
    """An instant between two seconds, at the beginning or beyond all that is counted, revokes what it must."""
    table = RevocationTable([revoke(RevokedBy.SUBJECT, "eve", before=instant, until=1e12)], max_entries=1)
    assert table.find(A, {"sub": "eve", "iat": instant}, "", None, T) is RevokedBy.SUBJECT


def test_a_second_signature_does_not_save_a_token() -> None:
    """From one ECDSA signature anyone makes another that verifies; the digest is that of what was signed."""
    token = mint(A_EC)
    signed, _, signature = token.rpartition(".")
    raw = base64url.decode(signature.encode())
    r, s = int.from_bytes(raw[:32], "big"), P256 - int.from_bytes(raw[32:], "big")
    assert decode_dss_signature(encode_dss_signature(r, s)) == (r, s)
    mirrored = f"{signed}.{base64url.encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big')).decode()}"
    assert mirrored != token
    assert decide(mirrored).reason is Reason.AUTHENTICATED
    revoked = world(revoke(RevokedBy.DIGEST, token_digest(parse_token(token))))
    assert decide(token, snapshot=revoked).reason is Reason.TOKEN_REVOKED
    assert decide(mirrored, snapshot=revoked).reason is Reason.TOKEN_REVOKED
    assert token_digest("v4.public.paseto") == hashlib.sha256(b"v4.public.paseto").hexdigest()


def test_a_key_that_a_token_is_bound_to_is_revoked() -> None:
    """A lost device: the tokens of its key end, and the proof is not used up by that."""
    world_of_proofs = with_proofs()
    assert JKT is not None
    headers = {"authorization": f"DPoP {BOUND}", "dpop": proof()}
    revoked = world(revoke(RevokedBy.KEY, JKT), snapshot=world_of_proofs)
    decision = decide(headers=headers, snapshot=revoked)
    assert (decision.reason, decision.trail.needs) == (Reason.TOKEN_REVOKED, ())
    other = world(revoke(RevokedBy.KEY, "another"), snapshot=world_of_proofs)
    assert decide(headers=headers, snapshot=other).trail.needs
    table = other.revocations[0].table
    assert table.find(A, {"cnf": {"x5t#S256": "another", "jkt": 7}}, "", None, T) is RevokedBy.KEY
    assert table.find(A, {"cnf": "another"}, "", None, T) is None
    keyless = replace(next(iter(world_of_proofs.issuers[A].keys.keys)), kid=None)  # type: ignore[union-attr]  # it has keys
    assert table.find(A, {}, "", keyless, T) is None
