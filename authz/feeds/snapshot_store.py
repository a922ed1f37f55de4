"""Holds the current snapshot, and replaces it as a whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from threading import Lock

from authz.core.keys import KeySet
from authz.core.minting import SigningKey
from authz.core.published_document import PublishedDocument
from authz.core.revocation import RevocationSource
from authz.core.snapshot import Snapshot


class SnapshotStore:
    """Holds the reference to the current snapshot. Readers take no lock; writers replace the reference."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Start with *snapshot*."""
        self._current = snapshot
        self._write_lock = Lock()
        self._key: SigningKey | None = None
        self._published: tuple[PublishedDocument, ...] = ()

    def current(self) -> Snapshot:
        """Return the current snapshot."""
        return self._current

    def adopt(self, snapshot: Snapshot, *, kept: Collection[str], keys: Mapping[str, KeySet]) -> None:
        """Publish *snapshot*. Issuers whose `iss` is in *kept* keep their current keys, others get those in *keys*.

        The sources of revocations stay: they follow the configuration on their own.
        """
        with self._write_lock:
            current_issuers = self._current.issuers
            issuers = {
                iss: replace(issuer, keys=current_issuers[iss].keys if iss in kept else keys.get(iss, issuer.keys))
                for iss, issuer in snapshot.issuers.items()
            }
            current = replace(snapshot, issuers=issuers, revocations=self._current.revocations)
            self._current = self._with_signing(current)

    def set_keys(self, issuers: tuple[str, ...], keys: KeySet | None) -> None:
        """Publish a snapshot in which the issuers with these `iss` have *keys*; None if they have no usable keys.

        An `iss` that is not in the current snapshot is ignored.
        """
        with self._write_lock:
            current_issuers = self._current.issuers
            changed = {iss: replace(current_issuers[iss], keys=keys) for iss in issuers if iss in current_issuers}
            if changed:
                self._current = replace(self._current, issuers={**current_issuers, **changed})

    def set_revocations(self, sources: tuple[RevocationSource, ...]) -> None:
        """Publish a snapshot with these sources of revocations."""
        with self._write_lock:
            self._current = replace(self._current, revocations=sources)

    def set_signing(self, key: SigningKey | None, published: tuple[PublishedDocument, ...]) -> None:
        """Publish a snapshot in which *key* signs, with the documents about it; later snapshots have them too."""
        with self._write_lock:
            self._key, self._published = key, published
            self._current = self._with_signing(self._current)

    def _with_signing(self, snapshot: Snapshot) -> Snapshot:
        if snapshot.minting is None:
            return snapshot
        return replace(snapshot, minting=replace(snapshot.minting, key=self._key), published=self._published)
