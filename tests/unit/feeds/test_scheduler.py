"""Proves that every feed gets its turn, on real threads, and that a closed one publishes nothing."""

from __future__ import annotations

import time
from threading import Event

from prometheus_client import CollectorRegistry

from authz.core.keys import KeySet
from authz.core.needs import KEY, Need
from authz.feeds.feed import Feed
from authz.feeds.key_history import KeyHistory
from authz.feeds.key_lane import KEY_SEARCHED, KeyFeed, KeyLane
from authz.feeds.ports import FeedEnv, Loaded
from authz.feeds.refresh import Schedule
from authz.feeds.scheduler import Scheduler
from authz.feeds.sources import KeySetReader
from authz.telemetry.keys import KeyMetrics
from tests.fakes.waiting import wait_until
from tests.unit.feeds.rig import K1, document


class Source:
    """A source that may hang, or break."""

    location = "here"

    def __init__(self, *, go_on: Event | None = None) -> None:
        self.loads = 0
        self._go_on = go_on

    def read(self, document: bytes) -> KeySet:
        return KeySetReader().read(document, self.location)

    def load(self, *, on_demand: bool) -> Loaded[KeySet]:
        self.loads += 1
        if self._go_on is not None:
            self._go_on.wait()
        return Loaded(self.read(document(K1)), document(K1))


def break_down(*_: object) -> None:
    """Report as a collector does that is broken."""
    raise ZeroDivisionError


def make(
    scheduler: Scheduler, name: str, source: Source, published: list[KeySet | None], **times: float
) -> Feed[KeySet]:
    """Make a feed that publishes into a list, and whose span breaks."""
    return Feed(
        name,
        source,
        schedule=Schedule(**times),
        publish=published.append,
        env=FeedEnv(
            monotonic=time.monotonic,
            now=time.time,
            jitter=lambda: 0.5,
            spawn=scheduler.spawn,
            wake=scheduler.wake,
            on_refresh=break_down,
        ),
        observer=KeyHistory(name, KeyMetrics(CollectorRegistry()).for_issuer(name)),
    )


def test_a_hanging_feed_holds_up_no_other() -> None:
    """Each refresh has a thread of its own; the other feed goes on refreshing."""
    scheduler, go_on, published = Scheduler(monotonic=time.monotonic), Event(), list[KeySet | None]()
    hanging, lively = Source(go_on=go_on), Source()
    often = {"interval": 0.01, "min_interval": 0.01, "max_interval": 0.01}
    feeds = [make(scheduler, "a", hanging, published), make(scheduler, "b", lively, [], **often)]
    scheduler.start(lambda: feeds)
    wait_until(lambda: lively.loads >= 5)
    assert (hanging.loads, published) == (1, [])
    go_on.set()
    wait_until(lambda: len(published) == 1)
    scheduler.stop()


def test_a_report_that_breaks_does_not_stop_the_schedule() -> None:
    """Refreshes that outlast the scheduler's look, each followed by a broken report: the next one comes in time."""
    scheduler = Scheduler(monotonic=time.monotonic)
    rounds = [Event() for _ in range(4)]

    class Slow(Source):
        def load(self, *, on_demand: bool) -> Loaded[KeySet]:
            self._go_on = rounds[min(self.loads, 3)]
            return super().load(on_demand=on_demand)

    source = Slow()
    feeds = [make(scheduler, "a", source, [], interval=0.01, min_interval=0.01, max_interval=0.01)]
    scheduler.start(lambda: feeds)
    for number, go_on in enumerate(rounds[:3]):
        wait_until(lambda number=number: source.loads > number)  # type: ignore[misc]
        go_on.set()
    wait_until(lambda: source.loads > 3)
    rounds[3].set()
    scheduler.stop()


def test_closed_feeds_fall_silent() -> None:
    """A reload replaces a feed whose refresh is still under way: what it brings is not published."""
    scheduler, go_on, published = Scheduler(monotonic=time.monotonic), Event(), list[KeySet | None]()
    old, new = Source(go_on=go_on), Source()
    feed = make(scheduler, "a", old, published)
    feeds = [feed]
    scheduler.start(lambda: list(feeds))
    wait_until(lambda: old.loads == 1)
    after: list[KeySet | None] = []
    feed.close()
    feeds[:] = [make(scheduler, "a", new, after)]
    scheduler.wake()
    wait_until(lambda: len(after) == 1)
    go_on.set()
    wait_until(lambda: not feed.status().refreshing)
    assert published == []
    scheduler.stop()


def test_a_feed_that_breaks_holds_up_no_other() -> None:
    """What one feed's step raises is logged, and the next one gets its turn."""
    scheduler, source = Scheduler(monotonic=time.monotonic), Source()

    class Broken:
        name = "broken"

        def due(self) -> float:
            return 0.0

        def step(self) -> None:
            raise ZeroDivisionError

    feed = make(scheduler, "a", source, [])
    scheduler.start(lambda: [Broken(), feed])
    wait_until(lambda: feed.status().serving)
    scheduler.stop()


def test_need_of_an_issuer_without_a_feed_is_answered() -> None:
    """Keys that are written in the configuration are searched as soon as they are read: no one waits."""
    feed = make(Scheduler(monotonic=time.monotonic), "a", Source(), [])
    lane = KeyLane(
        lambda: {"a": KeyFeed(feed, KeyHistory("a", KeyMetrics(CollectorRegistry()).for_issuer("a")))}, max_waiting=8
    )
    known, stranger = Need(KEY, "a", None), Need(KEY, "nobody", None)
    answers: list[object] = []
    lane.ask(stranger, answers.append)
    assert (lane.find(stranger), answers, lane.max_wait(stranger)) == (KEY_SEARCHED, [KEY_SEARCHED], 0.0)
    assert lane.max_wait(known) == 1.0
