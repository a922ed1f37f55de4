"""Proves what is cached: arithmetic that succeeded, under one key of one issuer, and nothing else."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from authz.core.claims import ClaimRules
from authz.core.issuer import Issuer
from authz.core.keys import Key, KeySet, Verified
from authz.core.reasons import Reason, Rejected
from authz.core.snapshot import Snapshot
from authz.core.token import UnverifiedToken, parse_token
from authz.feeds.signature_cache import ENTRY_BYTES, SignatureCache
from tests.fixtures import A_EC, A_RSA, A, B, T, decide, issuer_a, key_set, make_snapshot, mint, rule, signer

COMPUTED, CACHED = Verified.COMPUTED, Verified.CACHED


def key_of(keys: KeySet, kid: str) -> Key:
    """Return the key with this id."""
    return next(key for key in keys.keys if key.kid == kid)


RSA = key_of(key_set(A_RSA), "a-rsa")


def token(subject: str = "bob") -> UnverifiedToken:
    """A well signed token."""
    return parse_token(mint(sub=subject))


def forged(genuine: UnverifiedToken) -> UnverifiedToken:
    """The same token with one bit of its signature changed."""
    return replace(genuine, signature=genuine.signature[:-1] + bytes([genuine.signature[-1] ^ 1]))


def verify(cache: SignatureCache, issuer: str, key: Key, token: UnverifiedToken) -> Verified:
    """Verify under one key, and return how."""
    found, verified = cache.verify(issuer, (key,), token)
    assert found is key
    return verified


def rejects(cache: SignatureCache, token: UnverifiedToken, *, issuer: str = "a", key: Key = RSA) -> bool:
    """Tell whether the signature is refused."""
    try:
        verify(cache, issuer, key, token)
    except Rejected as rejected:
        assert rejected.reason is Reason.SIGNATURE_INVALID  # noqa: PT017 - it need not raise
        return True
    return False


# The arithmetic.


def test_a_signature_is_remembered() -> None:
    """The first look is a miss, each further one a hit, also when the token was parsed again."""
    cache = SignatureCache()
    text = mint()
    assert [verify(cache, "a", RSA, parse_token(text)) for _ in range(3)] == [COMPUTED, CACHED, CACHED]


def test_a_wrong_signature_is_never_remembered() -> None:
    """Failure is computed every time, before and after the genuine token was seen."""
    cache = SignatureCache()
    genuine = token()
    assert all(rejects(cache, forged(genuine)) for _ in range(3))
    assert verify(cache, "a", RSA, genuine) is COMPUTED
    assert all(rejects(cache, forged(genuine)) for _ in range(3))
    assert verify(cache, "a", RSA, genuine) is CACHED


@pytest.mark.parametrize(
    "change",
    [
        {"signing_input": b"e30.e30"},
        {"signature": b"\x01" * 256},
        {"signature": b""},
        {"alg": "RS384"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_what_was_signed_counts(change: dict[str, bytes]) -> None:
    """Another input, signature or algorithm finds no entry of the genuine token."""
    cache = SignatureCache()
    genuine = token()
    verify(cache, "a", RSA, genuine)
    assert rejects(cache, replace(genuine, **change))  # type: ignore[arg-type]


def test_another_key_or_issuer_is_a_miss() -> None:
    """An entry holds under one key of one issuer: the same token elsewhere is computed, and refused where wrong."""
    cache = SignatureCache()
    genuine = token()
    verify(cache, "a", RSA, genuine)
    other = key_of(key_set(signer("RS256", "a-rsa")), "a-rsa")  # the same kid, another key

    assert rejects(cache, genuine, key=other)
    assert verify(cache, "b", RSA, genuine) is COMPUTED
    assert verify(cache, "b", RSA, genuine) is CACHED


def test_the_same_key_found_again_is_a_hit() -> None:
    """A refresh that brings the same key does not cost the memory."""
    cache = SignatureCache()
    verify(cache, "a", RSA, token_once := token())
    assert verify(cache, "a", key_of(key_set(A_EC, A_RSA), "a-rsa"), token_once) is CACHED


def test_of_several_keys_the_one_that_signed_is_remembered() -> None:
    """A token that several keys could have signed costs no arithmetic again, whichever of them it was."""
    others = key_set(signer("RS256", "1"), signer("RS256", "2")).keys
    for keys in ((RSA, *others), (*others, RSA), (others[0], RSA, others[1])):
        cache = SignatureCache()
        genuine = token()
        assert cache.verify("a", keys, genuine) == (RSA, COMPUTED)
        assert cache.verify("a", keys, genuine) == (RSA, CACHED)
        assert cache.verify("a", (RSA,), genuine) == (RSA, CACHED)
        with pytest.raises(Rejected, match="under any of 3 keys"):
            cache.verify("a", keys, forged(genuine))
        with pytest.raises(Rejected):
            cache.verify("a", others, genuine)


def test_it_is_bounded() -> None:
    """The least recently used entry goes first."""
    cache = SignatureCache(max_entries=2)
    one, two, three = (token(subject) for subject in ("1", "2", "3"))
    assert [verify(cache, "a", RSA, each) for each in (one, two, one, three)] == [COMPUTED, COMPUTED, CACHED, COMPUTED]
    assert [verify(cache, "a", RSA, each) for each in (one, three, two)] == [CACHED, CACHED, COMPUTED]


def test_a_key_that_is_gone_takes_its_entries_along() -> None:
    """What was remembered under keys that vanished or were blocked is dropped, and nothing else."""
    cache = SignatureCache()
    kept, gone = token("kept"), parse_token(mint(A_EC))
    verify(cache, "a", RSA, kept)
    verify(cache, "a", key_of(key_set(A_EC), "a-ec"), gone)
    cache.evict_removed_keys(make_snapshot(a=issuer_a(keys=key_set(A_RSA, A_EC).block(["a-ec"]))))
    assert verify(cache, "a", RSA, kept) is CACHED
    assert verify(cache, "a", key_of(key_set(A_EC), "a-ec"), gone) is COMPUTED
    cache.evict_removed_keys(make_snapshot(a=issuer_a(keys=None)))
    assert verify(cache, "a", RSA, kept) is COMPUTED


def test_an_entry_has_one_size_whatever_was_signed() -> None:
    """A memory full of large tokens takes no more than its bound on bytes."""
    tokens = [parse_token(mint(sub=str(number), large="x" * 2000)) for number in range(300)]
    cache = SignatureCache()
    tracemalloc.start()
    try:
        for each in tokens:
            verify(cache, "a", RSA, each)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < ENTRY_BYTES * len(tokens)


def test_threads_may_share_it() -> None:
    """Eight threads over a memory that is too small: every genuine token passes, every forged one does not."""
    cache = SignatureCache(max_entries=3)
    genuine = [token(str(number)) for number in range(6)]
    wrong = [forged(each) for each in genuine]

    def work(start: int) -> list[bool]:
        order = [(start + step) % 6 for step in range(120)]
        return [rejects(cache, genuine[at]) or not rejects(cache, wrong[at]) for at in order]

    with ThreadPoolExecutor(8) as pool:
        assert not any(failed for failures in pool.map(work, range(8)) for failed in failures)


def test_requests_go_on_while_keys_are_evicted() -> None:
    """Beside four threads that verify: each genuine token passes, and nothing is left of a key that is gone."""
    cache = SignatureCache(max_entries=50)
    kept, gone = [token(str(number)) for number in range(10)], [parse_token(mint(A_EC, sub=str(n))) for n in range(10)]
    ec = key_of(key_set(A_EC), "a-ec")
    snapshot = make_snapshot(a=issuer_a(keys=key_set(A_RSA)))
    done = Event()

    def evict() -> int:
        rounds = 0
        while not done.is_set():
            cache.evict_removed_keys(snapshot)
            rounds += 1
        return rounds

    def work(start: int) -> list[bool]:
        return [
            rejects(cache, kept[(start + step) % 10]) or rejects(cache, gone[(start + step) % 10], key=ec)
            for step in range(200)
        ]

    with ThreadPoolExecutor(5) as pool:
        evicting = pool.submit(evict)
        assert not any(failed for failures in pool.map(work, range(4)) for failed in failures)
        done.set()
        assert evicting.result() > 0
    cache.evict_removed_keys(snapshot)
    assert verify(cache, "a", ec, gone[0]) is COMPUTED


# The decision.


@pytest.fixture
def remembering() -> Snapshot:
    """The world with a memory, which has seen the good token of these tests."""
    snapshot = make_snapshot(verify_signature=SignatureCache().verify)
    for remembered in (False, True):
        decision = decide(TOKEN, snapshot=snapshot)
        assert (decision.reason, decision.trail.signature_cached) == (Reason.AUTHENTICATED, remembered)
    return snapshot


TOKEN = mint(scope="items:read", groups=[])


def test_a_remembered_token_expires(remembering: Snapshot) -> None:
    """Time is checked again."""
    decision = decide(TOKEN, snapshot=remembering, now=T + 300)
    assert (decision.reason, decision.trail.signature_cached) == (Reason.TOKEN_EXPIRED, True)


BLOCKED = key_set(A_RSA, A_EC)
STRICTER = rule("items", "/items/**", scopes=("items:write",))
CHANGES = {
    "blocked by kid": (make_snapshot(a=issuer_a(keys=BLOCKED.block(["a-rsa"]))), Reason.KEY_UNUSABLE),
    "blocked by thumbprint": (make_snapshot(a=issuer_a(keys=BLOCKED.block([RSA.thumbprint]))), Reason.KEY_UNUSABLE),
    "key vanished": (make_snapshot(a=issuer_a(keys=key_set(A_EC))), Reason.KEY_NOT_FOUND),
    "no keys": (make_snapshot(a=issuer_a(keys=None)), Reason.KEYS_UNAVAILABLE),
    "algorithm withdrawn": (make_snapshot(a=issuer_a(algorithms=["ES256"])), Reason.ALG_NOT_ALLOWED),
    "other audience": (make_snapshot(a=issuer_a(audiences=frozenset({"other"}))), Reason.AUDIENCE_MISMATCH),
    "other type": (make_snapshot(a=issuer_a(token_types=frozenset({"jwt"}))), Reason.TYP_NOT_ALLOWED),
    "issuer removed": (make_snapshot(issuers={}), Reason.ISSUER_UNKNOWN),
    "stricter rule": (make_snapshot(STRICTER), Reason.INSUFFICIENT_SCOPE),
}


@pytest.mark.parametrize(("after", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_remembered_token_is_judged_anew(remembering: Snapshot, after: Snapshot, reason: Reason) -> None:
    """Keys, blocked keys, audience, type, issuers and rules are evaluated as of now, whatever is remembered."""
    assert decide(TOKEN, snapshot=replace(after, verify_signature=remembering.verify_signature)).reason is reason


def test_one_issuer_cannot_use_what_another_one_proved(remembering: Snapshot) -> None:
    """Two issuers that publish the same key: a token of one is remembered for that one alone."""
    rules = ClaimRules(issuer=B, audiences=frozenset({"api"}), leeway=0)
    both = make_snapshot(issuers={A: issuer_a(), B: Issuer("b", frozenset({"RS256"}), rules, key_set(A_RSA))})
    both = replace(both, verify_signature=remembering.verify_signature)
    theirs = mint(iss=B)
    assert decide(theirs, snapshot=both).trail.signature_cached is False
    assert decide(theirs, snapshot=both).trail.signature_cached is True
