"""Proves that keys are swapped in whole, and only for issuers that are trusted."""

from __future__ import annotations

from authz.core.snapshot import Snapshot
from authz.feeds.store import Store
from tests.world import A_RSA, WORLD, A, B, key_set


def test_keys_are_swapped() -> None:
    """A new snapshot has the new keys; the one in use is not touched; nobody else's keys change."""
    store = Store(WORLD)
    keys = key_set(A_RSA)
    store.set_keys(A, keys)
    assert store.current().issuers[A].keys is keys
    assert WORLD.issuers[A].keys is not keys
    assert store.current().issuers[B] is WORLD.issuers[B]
    store.set_keys(A, None)
    assert store.current().issuers[A].keys is None


def test_each_new_snapshot_is_told() -> None:
    """Whoever keeps something by the keys of a snapshot learns of the next one, once it is the one in use."""
    told: list[Snapshot] = []
    store = Store(WORLD, changed=told.append)
    store.set_keys(A, None)
    first = store.current()
    store.set_keys("https://gone.test", key_set(A_RSA))  # changes nothing
    store.adopt(WORLD, kept=(), keys={})
    assert [each is expected for each, expected in zip(told, (first, store.current()), strict=True)] == [True, True]


def test_keys_of_strangers_are_dropped() -> None:
    """An issuer that a reload removed does not come back through a late flight."""
    store = Store(WORLD)
    store.set_keys("https://gone.test", key_set(A_RSA))
    assert store.current() is WORLD
