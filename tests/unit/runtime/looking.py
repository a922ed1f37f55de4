"""A running configuration on a file, without a server: what the console looks at."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from authz.config.build import build_snapshot
from authz.core.snapshot import Snapshot
from authz.facts.clients import ClientMemory
from authz.feeds.key_usage import KeyUsage
from authz.feeds.ports import FeedEnv
from authz.feeds.registry import Registry
from authz.feeds.snapshot_store import SnapshotStore
from authz.runtime.active_config import ActiveConfig
from authz.runtime.checking import check_file
from authz.runtime.insight import Insight, Parts
from authz.runtime.loaded import Loaded
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.keys import KeyMetrics
from authz.telemetry.last_hour import LastHour
from authz.telemetry.metrics import Metrics
from authz.telemetry.recent import RecentDecisions
from authz.telemetry.report import Reporting, reporter
from tests.fixtures import T


class Running:
    """A configuration in use, and the console's view of it at T. Nothing is fetched."""

    def __init__(self, file: Path) -> None:
        loaded = check_file(file)
        config = loaded.config
        self.usage = KeyUsage(lambda: T)
        self._file = file
        verify = self.usage.record_use(build_snapshot(config).verify_signature)
        self._build = partial(build_snapshot, verify_signature=verify)
        self.store = SnapshotStore(self._build(config))
        self.metrics = Metrics(insecure_options=0, label_rules=True, lost_lines=lambda: 0)
        self.metrics.watch_in_flight(lambda: 3)
        env = FeedEnv(monotonic=time.monotonic, now=lambda: T, jitter=lambda: 0.0, spawn=_never)
        self.feeds = Registry(store=self.store, env=env, usage=self.usage, metrics=KeyMetrics(self.metrics.registry))
        self.log = DecisionLog(self.metrics, monotonic=lambda: 0.0)
        self.clients = ClientMemory(max_networks=80, max_subjects=80, max_accepted=80, monotonic=lambda: 0.0)
        self.recent = RecentDecisions(lambda: T)
        self.active = ActiveConfig(
            file,
            loaded,
            self.store.current(),
            prepare=self._prepare,
            reconfigure=self.feeds.apply,
            metrics=self.metrics,
            make_report=self._make_report,
        )
        self.active.warn()
        self.hour = LastHour(self.metrics.totals, now=lambda: T, rss=lambda: 1)
        self.insight = Insight(
            Parts(
                active=lambda: self.active,
                snapshot=self.store.current,
                feeds=self.feeds,
                revocations=lambda: {"events": 2},
                sharing=lambda: {"age": 1.5, "pending": 3, "failure": ""},
                usage=self.usage,
                metrics=self.metrics,
                decision_log=self.log,
                clients=self.clients,
                recent=self.recent,
                last_hour=self.hour,
                waiting_for=lambda: ["keys of a"],
                now=lambda: T,
            )
        )

    def _prepare(self) -> tuple[Loaded, Snapshot]:
        loaded = check_file(self._file)
        return loaded, self._build(loaded.config)

    def _make_report(self, reporting: Reporting) -> Callable[[CheckRecord], None]:
        return reporter(self.metrics, self.log, reporting, recent=self.recent)


def _never(_: Callable[[], None]) -> None:
    """Start no refresh."""
