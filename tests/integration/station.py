"""A sidecar without its gRPC server: configuration, feeds on real threads, and Checks as bytes."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.core.decision import Allow
from authz.core.keys import KeySet
from authz.core.minting import MINTED
from authz.core.snapshot import Snapshot
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer, Lane
from authz.facts.clients import ClientMemory
from authz.facts.loop import Loop
from authz.feeds.fact_lanes import FactLanes
from authz.feeds.feed import Feed
from authz.feeds.key_lane import make_key_lanes
from authz.feeds.key_report import describe_keys
from authz.feeds.key_usage import KeyUsage
from authz.feeds.ports import FeedEnv
from authz.feeds.registry import Registry
from authz.feeds.scheduler import Scheduler
from authz.feeds.signature_cache import SignatureCache
from authz.feeds.snapshot_store import SnapshotStore
from authz.feeds.status_lists import StatusListLanes
from authz.feeds.token_cache import TokenCache
from authz.signing.keyring import Keyring, KeyringView
from authz.signing.lanes import TokenLanes
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.facts import FactMetrics
from authz.telemetry.keys import KeyMetrics
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.fetching import resolve_here

HANG = 300.0  # seconds after which a test that hangs is stopped


class Station:
    """Runs the issuers of a configuration; *issuers* is YAML below that key, indented by two, *whole* all of it."""

    def __init__(self, issuers: str = "", *, whole: str = "", waiters: int = 64) -> None:
        text = f"version: 1\nissuers:\n{issuers}rules:\n  - match: {{paths: [/**]}}\n    allow: authenticated\n"
        self.allowed = 0  # checks
        self.config = parse(whole or text, file="authz.yaml")
        self.registry = CollectorRegistry()
        self._settles = False
        self.report: Callable[[CheckRecord], None] = lambda record: None
        self.usage = KeyUsage(time.time)
        self.signatures = SignatureCache()
        self.tokens = TokenCache()
        verify = self.usage.record_use(self.tokens.keep_verified(self.signatures.verify))
        self.store = SnapshotStore(build_snapshot(self.config, parse_token=self.tokens.parse, verify_signature=verify))
        self.scheduler = Scheduler(monotonic=time.monotonic)
        self.key_metrics = KeyMetrics(self.registry)
        self.issuers = Registry(
            store=self.store,
            env=FeedEnv(
                monotonic=time.monotonic,
                now=time.time,
                jitter=random.random,
                spawn=self.scheduler.spawn,
                wake=self.scheduler.wake,
            ),
            usage=self.usage,
            metrics=self.key_metrics,
            evict=self._evict,
            resolve=resolve_here,
        )
        metrics = FactMetrics(self.registry)
        loop = Loop(time.monotonic)
        self.facts = FactLanes(metrics, max_waiting=waiters, resolve=resolve_here, loop=loop)
        self.status_lists = StatusListLanes(metrics, max_waiting=waiters, resolve=resolve_here)
        self.minted = TokenLanes(metrics, max_waiting=waiters)
        self.clients = ClientMemory(max_networks=64, max_subjects=64, max_accepted=64, monotonic=time.monotonic)
        self.keyring = Keyring(self._show_signing, now=time.time, monotonic=time.monotonic)
        lanes: dict[str, Lane] = {
            **make_key_lanes(self.issuers.feeds, max_waiting=waiters),
            **self.facts.by_kind(),
            **self.status_lists.by_kind(),
            **self.clients.lanes(),
            MINTED: self.minted.lane,
        }
        self.gatherer = Gatherer(lanes, monotonic=time.monotonic, loop=loop)
        self.checker = Checker(
            snapshot=self.store.current,
            gatherer=self.gatherer,
            report=self._report,
            now=time.time,
            elapsed=time.monotonic,
            new_id=partial(secrets.token_hex, 8),
        )

    def _evict(self, snapshot: Snapshot) -> None:
        self.signatures.evict_removed_keys(snapshot)
        self.tokens.evict_removed_keys(snapshot)

    def __enter__(self) -> Self:
        self.facts.reconfigure(self.config)
        self.keyring.reconfigure(self.config)
        self.status_lists.reconfigure(self.config)
        self.issuers.apply(self.config, self.store.current())
        self.scheduler.start(self.issuers.feeds_to_step)
        self.gatherer.start()
        if self._settles:
            wait_until(lambda: all(map(self._has_answered, self.issuers.feeds())))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.scheduler.stop()
        self.gatherer.stop()
        self.facts.close()
        self.status_lists.close()
        self.minted.close()
        self.keyring.stop()

    def _show_signing(self, view: KeyringView) -> None:
        self.minted.add(view)
        self.store.set_signing(view.key, view.published)
        self.minted.use(view)

    def settle(self) -> Self:
        """When it starts, wait until every feed has had an answer, good or bad."""
        self._settles = True
        return self

    def _report(self, record: CheckRecord) -> None:
        self.allowed += isinstance(record.decision, Allow)
        self.report(record)

    def feed(self, name: str) -> Feed[KeySet]:
        """The feed of an issuer."""
        return self.issuers.feeds()[name].feed

    def _has_answered(self, name: str) -> bool:
        status = self.feed(name).status()
        return not status.refreshing and (status.serving or status.last_failure is not None)

    def ask(
        self, token: str, what: str = "GET api.test/orders", *, time_left: float = HANG_SECONDS, **headers: str
    ) -> str:
        """Send one Check and return the reason of its answer; *what* is a method, a host and a path."""
        answer = self.check(token, what, time_left, **headers)
        return answer.dynamic_metadata.fields["reason"].string_value

    def identity(self, token: str, what: str) -> dict[str, str]:
        """Send one Check that is allowed, and return the identity headers for the upstream."""
        options = self.check(token, what).ok_response.headers
        return {option.header.key: option.header.value for option in options}

    def check(self, token: str, what: str, time_left: float = HANG_SECONDS, **headers: str) -> wire.CheckResponse:
        """Send one Check and return its answer; further *headers* have `_` for `-`."""
        request = wire.CheckRequest()
        http = request.attributes.request.http
        http.method, _, url = what.partition(" ")
        http.host, slash, path = url.partition("/")
        http.path = slash + path
        http.headers["authorization"] = f"Bearer {token}"
        for name, value in headers.items():
            http.headers[name.replace("_", "-")] = value
        return self._answer(request, time_left)

    def begin(self, token: str) -> SimpleQueue[bytes]:
        """Send one Check, and return where its answer will be."""
        request = wire.CheckRequest()
        http = request.attributes.request.http
        http.method, http.host, http.path = "GET", "api.test", "/orders"
        http.headers["authorization"] = f"Bearer {token}"
        answers = SimpleQueue[bytes]()
        answer = self.checker.check(request.SerializeToString(), received=time.monotonic(), time_left=HANG_SECONDS)
        if isinstance(answer, bytes):
            answers.put(answer)
        else:
            answer(answers.put)
        return answers

    def _answer(self, request: wire.CheckRequest, time_left: float) -> wire.CheckResponse:
        answer = self.checker.check(request.SerializeToString(), received=time.monotonic(), time_left=time_left)
        if not isinstance(answer, bytes):
            answers = SimpleQueue[bytes]()
            answer(answers.put)
            answer = answers.get(timeout=HANG)
        return wire.CheckResponse.FromString(answer)

    def refresh(self, name: str) -> None:
        """Refresh now, as if it were due, and wait for the end."""
        feed = self.feed(name)
        wait_until(partial(self._make_due, feed))
        self.scheduler.wake()
        wait_until(lambda: feed.view.state.began_at > float("-inf") and not feed.view.state.running)

    @staticmethod
    def _make_due(feed: Feed[KeySet]) -> bool:
        """Have a refresh begin, unless one is in progress: that one began before, and must end as it began."""
        with feed._lock:
            state = feed.view.state
            if not state.running:
                state = replace(state, refresh_at=time.monotonic(), began_at=float("-inf"))
                feed._view = replace(feed.view, state=state)
            return not state.running

    def refreshes(self, name: str, result: str) -> float:
        """How many refreshes of an issuer ended so."""
        return self.registry.get_sample_value("authz_keys_refresh_total", {"issuer": name, "result": result}) or 0.0

    def asked(self, source: str, result: str, kind: str = "introspection") -> float:
        """How many questions to a source of facts ended so."""
        labels = {"kind": kind, "source": source, "result": result}
        return self.registry.get_sample_value("authz_facts_total", labels) or 0.0

    def describe(self) -> dict[str, object]:
        """What `/keys` would answer."""
        return describe_keys(self.store.current(), self.issuers.feeds(), self.usage)
