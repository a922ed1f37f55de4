"""Proves that every feed gets its turn, on real threads, and that a replaced one gets none."""

from __future__ import annotations

import time
from threading import Event

from prometheus_client import CollectorRegistry

from authz.core.keys import KeySet
from authz.feeds.jwks import KeyFeed, Runtime, Schedule
from authz.feeds.scheduler import Scheduler
from authz.feeds.sources import Loaded, Reader
from authz.telemetry.keys import KeyMetrics
from tests.fakes.waiting import wait_until
from tests.unit.feeds.rig import K1, document


class Source:
    """A source that may hang, or break."""

    where = "here"

    def __init__(self, *, go_on: Event | None = None) -> None:
        self.loads = 0
        self._go_on = go_on

    def read(self, document: bytes) -> KeySet:
        return Reader().read(document, self.where)

    def load(self, *, searching: bool) -> Loaded:
        self.loads += 1
        if self._go_on is not None:
            self._go_on.wait()
        return Loaded(self.read(document(K1)), document(K1))


def make(scheduler: Scheduler, name: str, source: Source, published: list[KeySet | None], **times: float) -> KeyFeed:
    """Make a feed that publishes into a list."""
    runtime = Runtime(monotonic=time.monotonic, now=time.time, jitter=lambda: 0.5, fly=scheduler.fly)
    metrics = KeyMetrics(CollectorRegistry()).of(name)
    return KeyFeed(name, source, schedule=Schedule(**times), publish=published.append, runtime=runtime, metrics=metrics)


def test_a_hanging_feed_holds_up_no_other() -> None:
    """Each refresh has a thread of its own; the other feed goes on refreshing."""
    scheduler, go_on, published = Scheduler(monotonic=time.monotonic), Event(), list[KeySet | None]()
    hanging, lively = Source(go_on=go_on), Source()
    often = {"interval": 0.01, "min_interval": 0.01, "max_interval": 0.01}
    scheduler.replace([make(scheduler, "a", hanging, published), make(scheduler, "b", lively, [], **often)])
    scheduler.start()
    wait_until(lambda: lively.loads >= 5)
    assert (hanging.loads, published) == (1, [])
    go_on.set()
    wait_until(lambda: len(published) == 1)
    scheduler.stop()


def test_replaced_feeds_fall_silent() -> None:
    """A reload replaces a feed whose refresh is still in the air: what it brings is not published."""
    scheduler, go_on, published = Scheduler(monotonic=time.monotonic), Event(), list[KeySet | None]()
    old, new = Source(go_on=go_on), Source()
    feed = make(scheduler, "a", old, published)
    scheduler.replace([feed])
    scheduler.start()
    wait_until(lambda: old.loads == 1)
    after: list[KeySet | None] = []
    scheduler.replace([make(scheduler, "a", new, after)])
    go_on.set()
    wait_until(lambda: len(after) == 1 and not feed.state().refreshing)
    assert published == []
    assert scheduler.find_unknown_key("nobody") is None
    assert scheduler.max_wait("nobody") == 0.0
    assert scheduler.max_wait("a") == 0.1
    scheduler.stop()
