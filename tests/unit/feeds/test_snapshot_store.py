"""Proves that keys are swapped in whole, and only for issuers that are trusted."""

from __future__ import annotations

from authz.feeds.snapshot_store import SnapshotStore
from tests.fixtures import A_RSA, DEFAULT_SNAPSHOT, A, B, key_set


def test_keys_are_swapped() -> None:
    """A new snapshot has the new keys; the one in use is not touched; no one else's keys change."""
    store = SnapshotStore(DEFAULT_SNAPSHOT)
    keys = key_set(A_RSA)
    store.set_keys((A,), keys)
    assert store.current().issuers[A].keys is keys
    assert DEFAULT_SNAPSHOT.issuers[A].keys is not keys
    assert store.current().issuers[B] is DEFAULT_SNAPSHOT.issuers[B]
    store.set_keys((A,), None)
    assert store.current().issuers[A].keys is None


def test_issuers_of_one_feed_change_together() -> None:
    """No request sees one tenant of an issuer with the new keys and another with the old ones."""
    store = SnapshotStore(DEFAULT_SNAPSHOT)
    keys = key_set(A_RSA)
    store.set_keys((A, B, "https://gone.test"), keys)
    assert [issuer.keys for issuer in store.current().issuers.values()] == [keys, keys]


def test_keys_of_strangers_are_dropped() -> None:
    """An issuer that a reload removed does not come back through a late refresh."""
    store = SnapshotStore(DEFAULT_SNAPSHOT)
    store.set_keys(("https://gone.test",), key_set(A_RSA))
    assert store.current() is DEFAULT_SNAPSHOT
