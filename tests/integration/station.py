"""A sidecar without its gRPC server: configuration, feeds on real threads, and Checks as bytes."""

from __future__ import annotations

import random
import secrets
import time
from functools import partial
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.check import Checker
from authz.feeds.assembly import make_feed
from authz.feeds.jwks import Runtime
from authz.feeds.report import describe_keys
from authz.feeds.scheduler import Scheduler
from authz.feeds.store import Store
from authz.feeds.usage import Usage
from authz.memo import SignatureMemo
from authz.telemetry.keys import KeyMetrics
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.fetching import resolve_here


class Station:
    """Runs the issuers of a configuration; `issuers` is YAML below that key, indented by two."""

    def __init__(self, issuers: str, *, waiters: int = 3) -> None:
        text = f"version: 1\nissuers:\n{issuers}rules:\n  - match: {{paths: [/**]}}\n    allow: authenticated\n"
        config = parse(text, file="authz.yaml")
        self.registry = CollectorRegistry()
        self._settles = False
        self.usage = Usage(time.time)
        self.store = Store(build_snapshot(config, verify=self.usage.watch(SignatureMemo().verify)))
        self.scheduler = Scheduler(monotonic=time.monotonic)
        runtime = Runtime(monotonic=time.monotonic, now=time.time, jitter=random.random, fly=self.scheduler.fly)
        metrics = KeyMetrics(self.registry)
        feeds = [
            make_feed(
                name,
                section,
                publish=partial(self.store.set_keys, section.issuer),
                runtime=runtime,
                metrics=metrics.of(name),
                resolve=resolve_here,
            )
            for name, section in config.issuers.items()
        ]
        self.feeds = {feed.name: feed for feed in feeds if feed is not None}
        self.checker = Checker(
            snapshot=self.store.current,
            feeds=self.scheduler,
            report=lambda judged: None,
            now=time.time,
            elapsed=time.monotonic,
            new_id=partial(secrets.token_hex, 8),
            max_waiters=waiters,
        )

    def __enter__(self) -> Self:
        for feed in self.feeds.values():
            feed.restore()
        self.scheduler.replace(self.feeds.values())
        self.scheduler.start()
        if self._settles:
            wait_until(lambda: all(map(self._has_landed, self.feeds)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.scheduler.stop()

    def settle(self) -> Self:
        """When it starts, wait until every feed has had an answer, good or bad."""
        self._settles = True
        return self

    def _has_landed(self, name: str) -> bool:
        state = self.feeds[name].state()
        return not state.refreshing and (state.serving or state.last_failure is not None)

    def ask(self, token: str, *, time_left: float = HANG_SECONDS) -> str:
        """Send one Check and return the reason of its answer."""
        request = wire.CheckRequest()
        http = request.attributes.request.http
        http.method, http.path, http.host = "GET", "/orders", "api.test"
        http.headers["authorization"] = f"Bearer {token}"
        answer = self.checker.check(request.SerializeToString(), received=time.monotonic(), time_left=time_left)
        answer = answer if isinstance(answer, bytes) else answer()
        return wire.CheckResponse.FromString(answer).dynamic_metadata.fields["reason"].string_value

    def refresh(self, name: str) -> None:
        """Refresh now, as if it were due, and wait for the end."""
        feed = self.feeds[name]
        with feed._lock:
            feed._refresh_at = time.monotonic()
            feed._tried_at = float("-inf")
        self.scheduler.replace(self.feeds.values())  # wakes the scheduler up
        wait_until(lambda: feed._tried_at > float("-inf") and not feed.state().refreshing)

    def refreshes(self, name: str, result: str) -> float:
        """How many refreshes of an issuer ended so."""
        return self.registry.get_sample_value("authz_keys_refresh_total", {"issuer": name, "result": result}) or 0.0

    def describe(self) -> dict[str, object]:
        """What `/keys` would answer."""
        return describe_keys(self.store.current(), self.scheduler.feeds, self.usage)
