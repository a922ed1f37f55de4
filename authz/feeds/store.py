"""Holds the current snapshot, and swaps it whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from threading import Lock

from authz.core.keys import KeySet
from authz.core.snapshot import Snapshot


class Store:
    """The one reference that changes. Readers take it without a lock; writers prepare the next and swap."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Begin with *snapshot*."""
        self._current = snapshot
        self._writing = Lock()

    def current(self) -> Snapshot:
        """Return the snapshot of this moment."""
        return self._current

    def adopt(self, snapshot: Snapshot, *, kept: Collection[str], keys: Mapping[str, KeySet]) -> None:
        """Swap in *snapshot*: issuers whose `iss` is *kept* with the keys that they have, others with *keys*."""
        with self._writing:
            known = self._current.issuers
            issuers = {
                iss: replace(issuer, keys=known[iss].keys if iss in kept else keys.get(iss, issuer.keys))
                for iss, issuer in snapshot.issuers.items()
            }
            self._current = replace(snapshot, issuers=issuers)

    def set_keys(self, issuers: tuple[str, ...], keys: KeySet | None) -> None:
        """Swap in a snapshot in which the issuers with these `iss` have *keys*, or None if they have none to serve.

        Keys of an issuer that is not trusted any more are dropped.
        """
        with self._writing:
            known = self._current.issuers
            changed = {iss: replace(known[iss], keys=keys) for iss in issuers if iss in known}
            if changed:
                self._current = replace(self._current, issuers={**known, **changed})
