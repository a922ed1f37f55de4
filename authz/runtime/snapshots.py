"""Build the snapshots of one process: each new one shares the caches of signatures and tokens with the one before."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from authz.config.build import build_snapshot
from authz.config.model import Config
from authz.core.snapshot import Snapshot
from authz.feeds.key_usage import KeyUsage
from authz.feeds.signature_cache import SignatureCache
from authz.feeds.token_cache import TokenCache
from authz.runtime.loaded import Loaded
from authz.runtime.loading import load

_MANY_RULES: Final = 1_000  # a collection among them stops all threads for 2 ms
_PAUSE: Final = 0.0001  # seconds, some thousand times in a reload of ten thousand rules


class SnapshotBuilder:
    """Builds snapshots that note in `usage` which keys verify. *nonce_secret* is for nonces of proofs (DPoP)."""

    def __init__(self, *, nonce_secret: bytes) -> None:
        self.usage: Final = KeyUsage(time.time)
        self._signatures: Final = SignatureCache()
        self._tokens: Final = TokenCache()
        self._build: Final[Callable[..., Snapshot]] = partial(
            build_snapshot,
            parse_token=self._tokens.parse,
            verify_signature=self.usage.record_use(self._tokens.keep_verified(self._signatures.verify)),
            nonce_secret=nonce_secret,
        )

    def build(self, config: Config) -> Snapshot:
        """Return the snapshot of *config*, with only the keys in the file itself."""
        return self._build(config)

    def load(self, file: Path) -> tuple[Loaded, Snapshot]:
        """Load *file*, and build its snapshot, beside checks. Raises ConfigError, CheckFailedError, OSError."""
        gc.disable()  # nothing of what is made here is garbage, and a collection stops all threads
        try:
            loaded = load(file, pause=_pause)
            snapshot = self._build(loaded.config, pause=_pause)
            if len(loaded.config.rules) > _MANY_RULES:
                # Otherwise the next three collections would each look through all rules. These have no cycles: the last
                # use of a snapshot frees it. Garbage in cycles that is not collected yet would stay.
                gc.freeze()
            return loaded, snapshot
        finally:
            gc.enable()

    def evict_removed_keys(self, snapshot: Snapshot) -> None:
        """Evict what was verified by keys that *snapshot* does not have."""
        self._signatures.evict_removed_keys(snapshot)
        self._tokens.evict_removed_keys(snapshot)


def _pause() -> None:
    """Yield to the deciding thread: a reload must not delay decisions."""
    time.sleep(_PAUSE)
