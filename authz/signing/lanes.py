"""The lanes to remote keys: one for each, so that a slow device or service does not slow down other keys."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from authz.core.minting import MINTED, SIGNING
from authz.facts.bounds import Bounds
from authz.facts.lane import SourceLane
from authz.signing.keyring import KeyringView
from authz.signing.minter import Minter, MintLane, remote_source
from authz.signing.sources import RemoteKey
from authz.telemetry.facts import FactMetrics


@dataclass(frozen=True, slots=True)
class _RunningLane:
    """A lane, and the key that it was made for."""

    key: RemoteKey
    lane: SourceLane


class TokenLanes:
    """Answers needs for minted tokens by the keys of the current view. At most *max_waiting* checks wait."""

    def __init__(self, metrics: FactMetrics, *, max_waiting: int, minter: Minter | None = None) -> None:
        self._metrics: Final = metrics
        self._max_waiting: Final = max_waiting
        self._minter: Final = minter or Minter(time.time)
        self._view = KeyringView()
        self._running: Mapping[str, _RunningLane] = {}
        self._lanes: Mapping[str, SourceLane] = {}
        self.max_cached = 10_000
        self.lane: Final = MintLane(
            lambda: self._view.signers,
            lambda: self._lanes,
            self._minter,
            max_cached=lambda: self.max_cached,
            max_waiting=max_waiting,
            observer=metrics.for_source(MINTED, SIGNING),
        )

    def add(self, view: KeyringView) -> None:
        """Let the keys of *view* sign too, beside the current ones."""
        running = dict(self._running)
        for kid, key in view.remote_keys.items():
            running[kid] = self._keep_or_make(kid, key)
        self._running = running
        self._lanes = {kid: started.lane for kid, started in running.items()}
        self._view = replace(view, signers={**self._view.signers, **view.signers})

    def use(self, view: KeyringView) -> None:
        """Use only the keys of *view*: start a lane for each remote one, and stop the others."""
        running = self._running
        made = {kid: self._keep_or_make(kid, key) for kid, key in view.remote_keys.items()}
        self._running, self._view = made, view
        self._lanes = {kid: started.lane for kid, started in made.items()}
        for kid, old in running.items():
            if made.get(kid) is not old:
                old.lane.stop()

    def close(self) -> None:
        """End all lanes."""
        for running in self._running.values():
            running.lane.stop()

    def _keep_or_make(self, kid: str, key: RemoteKey) -> _RunningLane:
        before = self._running.get(kid)
        if before is not None and before.key == key:
            return before
        lane = SourceLane(
            f"signing by {key.name}",
            remote_source(self._minter, key.signer),
            bounds=Bounds.of(key.section, max_waiting=self._max_waiting, max_cached=self.max_cached),
            monotonic=time.monotonic,
            observer=self._metrics.for_source(MINTED, key.name),
            random=random.random,
        )
        return _RunningLane(key, lane)
