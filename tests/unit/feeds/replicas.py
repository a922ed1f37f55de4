"""Replicas that share revocations in a server of shared state in memory; their threads run when they are stepped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from authz.config.model import Config
from authz.core.reasons import Reason
from authz.core.revocation import RevocationEntry
from authz.feeds.ports import FeedEnv
from authz.feeds.revocation_events import EventSharing
from authz.feeds.revocation_records import HmacSeal
from authz.feeds.revocation_sharing import NAME, SharedRevocations
from authz.feeds.revocations import LOGOUT, OPERATOR, Revocations
from authz.feeds.revoked_entries import RevocationTarget
from authz.feeds.shared.event_log import EventLog
from authz.feeds.snapshot_store import SnapshotStore
from authz.telemetry.revocations import RevocationMetrics
from tests.fakes.clock import FakeClock
from tests.fakes.shared_state import FakeServer
from tests.fixtures import DEFAULT_SNAPSHOT, T, decide, mint
from tests.unit.config.sample import configure

KEY: Final = "authz:revocations"  # of the stream
SECRET: Final = b"of all replicas, and of no one else"
TOKEN: Final = mint(sid="s1", sub="eve", jti="one", exp=T + 10**6)


class Replica:
    """One process of a replica; its wall clock may differ from that of the *server*."""

    def __init__(
        self,
        server: FakeServer,
        clock: FakeClock,
        *,
        file: Path | None = None,
        secret: bytes | None = SECRET,
        ahead: float = 0.0,
        **section: object,
    ) -> None:
        self.config = settings(**section, **({} if file is None else {"file": str(file)}))
        self.clock = clock
        self.store = SnapshotStore(DEFAULT_SNAPSHOT)
        self.registry = CollectorRegistry()

        def now() -> float:
            return clock.time() + ahead

        env = FeedEnv(monotonic=clock.monotonic, now=now, jitter=lambda: 0.5, spawn=lambda run: run())
        log = EventLog("revocations", reader=server.client(), writer=server.client(), now=now)
        self.sharing = SharedRevocations(log, env=env)
        self.revocations = Revocations(
            self.config,
            store=self.store,
            env=env,
            metrics=RevocationMetrics(self.registry),
            replicas=EventSharing(sharing=self.sharing, seal=None if secret is None else HmacSeal(secret), saves=True),
        )
        self.revocations.reconfigure(self.config)
        self.sharing.begin(self.revocations._callbacks)

    def read(self, times: int = 1) -> float:
        """Read what is shared, as the thread does; return the last pause."""
        return [self.sharing.step(self.revocations._callbacks) for _ in range(times)][-1]

    def log_out(self, *entries: RevocationEntry) -> int:
        """Have an issuer revoke."""
        return self.revocations.events.revoke(entries, f"{LOGOUT} of a")

    def revoke(self, *entries: RevocationEntry) -> int:
        """Have the operator revoke."""
        return self.revocations.events.revoke(entries, OPERATOR, undoable=True)

    def undo(self, *names: RevocationTarget) -> int:
        """Have the operator take back."""
        return self.revocations.events.undo(names, OPERATOR)

    def reason(self, token: str = TOKEN) -> Reason:
        """What becomes of a token, which is of eve's session s1."""
        return decide(token, snapshot=self.store.current()).reason

    def look_up(self, entry: RevocationEntry) -> set[str]:
        """By which sources the tokens of an entry are revoked."""
        return set(self.revocations.look_up(name_of(entry)))

    def count(self, result: str, source: str = NAME) -> float | None:
        """How many events had this result."""
        return self.metric("authz_revocation_events_total", source=source, result=result)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def name_of(entry: RevocationEntry) -> RevocationTarget:
    """What an entry names."""
    return entry.by, entry.issuer, entry.value


def settings(**section: object) -> Config:
    """Load a configuration with this section `revocation`."""
    return configure(more=f"revocation: {json.dumps(section)}\n")
