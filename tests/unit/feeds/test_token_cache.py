"""Proves what is cached of a token: what its text says, once its signature was found in the signature cache."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from authz.core.claims import ClaimPath
from authz.core.decision import Allow
from authz.core.identity import ClaimHeader, Identity, PayloadHeader
from authz.core.keys import KeySet, Verified
from authz.core.reasons import Reason, Rejected
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.token import MAX_TOKEN_BYTES, digest_of, parse_token
from authz.feeds.signature_cache import SignatureCache
from authz.feeds.token_cache import MAX_MEMORY, MAX_TOKENS, TokenCache, memory_of
from tests.cases.minting import minting
from tests.fixtures import A_EC, A_RSA, T, decide, issuer_a, key_set, make_snapshot, mint, rule


def caching(cache: TokenCache, snapshot: Snapshot | None = None) -> Snapshot:
    """The world with this cache behind a signature cache."""
    verify = cache.keep_verified(SignatureCache().verify)
    return replace(snapshot or make_snapshot(), parse_token=cache.parse, verify_signature=verify)


def is_kept(cache: TokenCache, text: str) -> bool:
    """Whether a token is parsed no more: the same object is returned."""
    return cache.parse(text, max_bytes=MAX_TOKEN_BYTES) is cache.parse(text, max_bytes=MAX_TOKEN_BYTES)


# What is kept.


def test_a_token_is_kept_at_its_second_use() -> None:
    """One use costs no memory; from the second one on, the token is not parsed again."""
    cache, text = TokenCache(), mint()
    snapshot = caching(cache)
    kept = []
    for _ in range(3):
        assert decide(text, snapshot=snapshot).reason is Reason.AUTHENTICATED
        kept.append(is_kept(cache, text))
    assert kept == [False, True, True]


def test_a_kept_token_is_what_its_text_says() -> None:
    """The digest is of the whole text, whichever way the token was made."""
    text = mint()
    cache = TokenCache()
    snapshot = caching(cache)
    for _ in range(2):
        decide(text, snapshot=snapshot)
    assert cache.parse(text, max_bytes=MAX_TOKEN_BYTES) == parse_token(text)
    assert cache.parse(text, max_bytes=MAX_TOKEN_BYTES).digest == parse_token(text).digest == digest_of(text)


def test_a_token_that_no_issuer_signed_is_never_kept() -> None:
    """A forged token costs no memory, however often it comes, before and after the genuine one."""
    cache, genuine = TokenCache(), mint()
    forged = genuine[:-8] + "AAAAAAA" + genuine[-1]
    snapshot = caching(cache)
    for text in (forged, forged, genuine, genuine, forged, forged):
        decide(text, snapshot=snapshot)
    assert decide(forged, snapshot=snapshot).reason is Reason.SIGNATURE_INVALID
    assert not is_kept(cache, forged)
    assert is_kept(cache, genuine)


@pytest.mark.parametrize("text", ["", "a.b", "é.é.é", "\ud800.e30.AAAA", "a" * (MAX_TOKEN_BYTES + 1)])
def test_what_is_no_token_is_rejected_as_without_a_cache(text: str) -> None:
    """Any text of a stranger has the same answer."""
    with pytest.raises(Rejected) as without:
        parse_token(text)
    with pytest.raises(Rejected) as within:
        TokenCache().parse(text, max_bytes=MAX_TOKEN_BYTES)
    assert (within.value.reason, within.value.detail) == (without.value.reason, without.value.detail)


def test_it_is_bounded_in_tokens() -> None:
    """The least recently used token goes first."""
    cache = TokenCache(max_tokens=2)
    snapshot = caching(cache)
    one, two, three = (mint(sub=subject) for subject in "123")
    for text in (one, one, two, two, one, three, three):
        decide(text, snapshot=snapshot)
    assert [is_kept(cache, text) for text in (one, two, three)] == [True, False, True]


def test_a_token_that_needs_much_memory_is_not_kept() -> None:
    """It is decided all the same."""
    cache, text = TokenCache(), mint(entries=[{"id": number} for number in range(200)])
    snapshot = caching(cache)
    for _ in range(3):
        assert decide(text, snapshot=snapshot).reason is Reason.AUTHENTICATED
    assert memory_of(parse_token(text)) > MAX_MEMORY
    assert not is_kept(cache, text)


PAYLOADS: dict[str, Callable[[int], object]] = {
    "usual": lambda number: {
        "sub": f"user-{number}",
        "scope": "read write",
        "exp": T + 60 + number,
        "roles": ["a", "b"],
    },
    "empty objects": lambda number: {"a": [{} for _ in range(300)], "n": number},
    "small objects": lambda number: {"a": [{"a": number} for _ in range(150)]},
    "empty lists": lambda number: {"a": [[] for _ in range(300)], "n": number},
    "teams": lambda number: {"teams": [f"{number}-{each}" for each in range(200)]},
    "numbers": lambda number: {"a": [number + 1000 + each for each in range(300)]},
    "fractions": lambda number: {"a": [number + each / 8 for each in range(300)]},
    "empty strings": lambda number: {"a": [""] * 300, "n": number},
    "members": lambda number: {f"{each}": number for each in range(200)},
    "text": lambda number: {"a": "x" * 2000, "n": number},
    "Chinese text": lambda number: {"a": "漢" * 500, "n": number},
    "one emoji in a text": lambda number: {"a": "x" * 1500 + "😀", "n": number},
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_the_estimate_of_memory_is_an_upper_bound(payload: Callable[[int], object]) -> None:
    """For all shapes of claims, with what is read from the token, the largest header, and the name of our token."""
    sub = ClaimHeader(header="x-sub", name="sub", path=ClaimPath(("sub",)))
    identity = Identity((sub, PayloadHeader(header="x")), token_header="x-token")
    verify = lambda _issuer, keys, _token: (keys[0], Verified.CACHED)  # noqa: E731 - one of two arguments
    snapshot = replace(minting(), identity=identity, verify_signature=verify)
    texts = [mint(**({"sub": f"{n}"} | payload(n))) for n in range(40)]  # type: ignore[operator]
    kept = []
    tracemalloc.start()
    try:
        for text in texts:
            token = parse_token(text)
            decide(text, snapshot=replace(snapshot, parse_token=lambda _text, *, max_bytes, token=token: token))
            kept.append(token)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < sum(map(memory_of, kept))


def test_all_tokens_together_have_a_bound() -> None:
    """It is what the comment says: 32 MB."""
    assert MAX_TOKENS * MAX_MEMORY == 32 * 2**20


def test_a_removed_key_takes_its_tokens_along() -> None:
    """Of other keys they stay."""
    cache = TokenCache()
    snapshot = caching(cache)
    kept, gone = mint(), mint(A_EC)
    for text in (kept, kept, gone, gone):
        decide(text, snapshot=snapshot)
    cache.evict_removed_keys(make_snapshot(a=issuer_a(keys=key_set(A_RSA, A_EC).block(["a-ec"]))))
    assert (is_kept(cache, kept), is_kept(cache, gone)) == (True, False)
    cache.evict_removed_keys(make_snapshot(a=issuer_a(keys=None)))
    assert not is_kept(cache, kept)


def test_threads_may_share_it() -> None:
    """Eight threads over a cache that is too small: every genuine token is allowed, every forged one denied."""
    cache = TokenCache(max_tokens=3)
    snapshot = caching(cache)
    genuine = [mint(sub=str(number)) for number in range(6)]
    forged = [text[:-8] + "AAAAAAA" + text[-1] for text in genuine]

    def work(start: int) -> list[Reason]:
        order = [(start + step) % 6 for step in range(120)]
        return [decide(each, snapshot=snapshot).reason for at in order for each in (genuine[at], forged[at])]

    with ThreadPoolExecutor(8) as pool:
        for reasons in pool.map(work, range(8)):
            assert reasons == [Reason.AUTHENTICATED, Reason.SIGNATURE_INVALID] * 120


# The decision.

TOKEN = mint(scope="items:read", groups=[], nbf=T - 10, exp=T + 300)


@pytest.fixture
def warm() -> Snapshot:
    """The world with a cache in which the good token of these tests is."""
    cache = TokenCache()
    snapshot = caching(cache)
    for _ in range(3):
        assert decide(TOKEN, snapshot=snapshot).reason is Reason.AUTHENTICATED
    assert is_kept(cache, TOKEN)
    return snapshot


def in_cache(warm: Snapshot, changed: Snapshot) -> Snapshot:
    """*changed*, with the caches of *warm*."""
    return replace(changed, parse_token=warm.parse_token, verify_signature=warm.verify_signature)


@pytest.mark.parametrize(
    ("now", "reason"),
    [(T + 299, Reason.AUTHENTICATED), (T + 300, Reason.TOKEN_EXPIRED), (T - 11, Reason.TOKEN_NOT_YET_VALID)],
)
def test_time_is_checked_every_time(warm: Snapshot, now: int, reason: Reason) -> None:
    """A token that was valid a moment ago is denied from the instant of its exp, and before its nbf."""
    strict = in_cache(warm, make_snapshot(a=issuer_a(leeway=0)))
    assert decide(TOKEN, snapshot=strict, now=now).reason is reason


OTHERS: dict[str, Snapshot] = {
    "blocked": make_snapshot(a=issuer_a(keys=key_set(A_RSA, A_EC).block(["a-rsa"]))),
    "key gone": make_snapshot(a=issuer_a(keys=key_set(A_EC))),
    "no keys": make_snapshot(a=issuer_a(keys=None)),
    "other keys, same kid": make_snapshot(a=issuer_a(keys=KeySet(()))),
    "algorithm": make_snapshot(a=issuer_a(algorithms=["ES256"])),
    "audience": make_snapshot(a=issuer_a(audiences=frozenset({"other"}))),
    "audience claim": make_snapshot(a=issuer_a(audience_claim="client_id")),
    "required": make_snapshot(a=issuer_a(required=("exp", "sub", "missing"))),
    "lifetime": make_snapshot(a=issuer_a(max_lifetime=1)),
    "aliases": make_snapshot(a=issuer_a(aliases={"sub": ClaimPath(("scope",))})),
    "type": make_snapshot(a=issuer_a(token_types=frozenset({"x"}))),
    "no issuer": make_snapshot(issuers={}),
    "rule": make_snapshot(rule("items", "/items/**", scopes=("items:write",))),
    "size": make_snapshot(token=TokenRules(max_bytes=100)),
    "headers": make_snapshot(
        identity=Identity((ClaimHeader(header="x-scope", name="scope", path=ClaimPath(("scope",))),))
    ),
    "unsafe header": make_snapshot(
        identity=Identity((ClaimHeader(header="x-groups", name="groups", path=ClaimPath(("groups",))),))
    ),
    "no headers": make_snapshot(identity=Identity()),
}


@pytest.mark.parametrize("changed", OTHERS.values(), ids=OTHERS)
def test_a_cached_token_is_decided_as_one_that_was_never_seen(warm: Snapshot, changed: Snapshot) -> None:
    """Whatever changed since, also back and forth: reason, detail, headers and claims are those without a cache."""
    cached = in_cache(warm, changed)
    for snapshot, plain in ((cached, changed), (warm, make_snapshot()), (cached, changed)):
        found, wanted = decide(TOKEN, snapshot=snapshot), decide(TOKEN, snapshot=plain)
        assert (found.reason, found.detail) == (wanted.reason, wanted.detail)
        assert replace(found.trail, signature_cached=None) == replace(wanted.trail, signature_cached=None)
        if isinstance(found, Allow):
            assert isinstance(wanted, Allow)
            assert (found.set_headers, found.remove_headers) == (wanted.set_headers, wanted.remove_headers)
            assert found.claims == wanted.claims
