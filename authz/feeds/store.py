"""Holds the current snapshot, and swaps it whole."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock

from authz.core.keys import KeySet
from authz.core.snapshot import Snapshot


class Store:
    """The one reference that changes. Readers take it without a lock; writers prepare the next and swap."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._current = snapshot
        self._writing = Lock()

    def current(self) -> Snapshot:
        """Return the snapshot of this moment."""
        return self._current

    def set_keys(self, issuer: str, keys: KeySet | None) -> None:
        """Swap in a snapshot in which the issuer with that `iss` has *keys*, or None where it has none to serve."""
        with self._writing:
            issuers = dict(self._current.issuers)
            issuers[issuer] = replace(issuers[issuer], keys=keys)
            self._current = replace(self._current, issuers=issuers)
