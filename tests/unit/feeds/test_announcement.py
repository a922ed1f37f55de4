"""Proves that what a refresh brought counts at once, whatever becomes of the reports on it and of the cache."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest

from authz.core.keys import KeySet
from authz.feeds.failure import RefreshError
from authz.feeds.key_cache import CachedDocument
from authz.feeds.key_history import KeyHistory
from authz.feeds.refresh import Search
from authz.telemetry.keys import Refresh
from tests.unit.feeds.rig import JWKS, K1, K2, K3, Rig, document, fail, publish

HANG = 120.0  # seconds; only ends a test that would hang


def raiser(error: Exception) -> Callable[..., Any]:
    """Return a function that raises *error*, whatever it is called with."""

    def fail(*_: object, **__: object) -> Any:  # noqa: ANN401 - it returns nothing
        raise error

    return fail


class SlowDisk:
    """A cache that writes only when it may: `writing` is set while it waits for `go_on`."""

    def __init__(self) -> None:
        self.writing = Event()
        self.go_on = Event()
        self.saved: list[bytes] = []

    def load(self) -> CachedDocument | None:
        return None

    def save(self, document: bytes, fetched_at: float, authorities: str) -> None:
        self.writing.set()
        assert self.go_on.wait(HANG)
        self.saved.append(document)


def test_new_keys_are_announced_before_they_are_saved() -> None:
    """Who waits for a key does not wait for the disk: the keys are served and the answer is given while it writes."""
    disk = SlowDisk()
    rig = Rig(cache=lambda _: disk)
    rig.hold = True
    answer = rig.ask()
    assert answer is not None
    refresh = Thread(target=rig.finish)
    refresh.start()
    assert disk.writing.wait(HANG)
    assert (answer.is_set(), rig.kids, rig.feed.status().refreshing, disk.saved) == (True, {"k1"}, False, [])
    disk.go_on.set()
    refresh.join(HANG)
    assert disk.saved == [document(K1)]


def test_a_disk_that_hangs_holds_up_one_refresh_only() -> None:
    """The refreshes after it do not queue up behind the disk; when it goes on, the newest keys are saved, once."""
    disk = SlowDisk()
    rig = Rig(cache=lambda _: disk)
    first = Thread(target=rig.feed.step)
    first.start()
    assert disk.writing.wait(HANG)
    for keys in ((K1, K2), (K1, K2, K3)):
        rig.site.at[JWKS] = publish(*keys)
        rig.run(600)
    assert rig.kids == {"k1", "k2", "k3"}
    disk.go_on.set()
    first.join(HANG)
    assert disk.saved == [document(K1), document(K1, K2, K3)]


class Broken(KeyHistory):
    """An observer that breaks at one of its methods."""

    def __init__(self, observer: KeyHistory, *, at: str) -> None:
        self._observer = observer
        self._at = at

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401 - a method
        if name == object.__getattribute__(self, "_at"):
            return raiser(ZeroDivisionError())
        if name.startswith("on_"):
            return getattr(object.__getattribute__(self, "_observer"), name)
        return object.__getattribute__(self, name)


def broken_at(name: str) -> Callable[[KeyHistory], Broken]:
    """Break the observer there."""
    return lambda observer: Broken(observer, at=name)


@pytest.mark.parametrize("name", ["on_accepted", "on_refreshed"])
def test_a_report_that_breaks_costs_nothing_but_itself(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Metrics, history or log broken: who waits is answered, the keys serve, and the next refresh comes in time."""
    rig = Rig(observer=broken_at(name))
    answer = rig.ask()
    assert answer is not None
    assert answer.is_set()
    assert rig.kids == {"k1"}
    rig.site.at[JWKS] = publish(K2)
    rig.run(570)
    assert rig.kids == {"k2"}
    assert "a report about a refresh of a failed" in caplog.text


def test_a_report_of_a_failure_that_breaks_costs_nothing_but_itself() -> None:
    """Who waits is answered, and the back-off goes on as if nothing had been said."""
    rig = Rig(observer=broken_at("on_failed"))
    rig.site.at[JWKS] = fail(Refresh.TIMEOUT)
    answer = rig.ask()
    assert answer is not None
    assert answer.is_set()
    rig.site.at[JWKS] = publish(K1)
    rig.run(1)
    assert rig.kids == {"k1"}


def test_a_report_of_a_withdrawal_that_breaks_stops_no_refresh() -> None:
    """The refresh that is due in the same moment begins."""
    rig = Rig(observer=broken_at("on_withdrawn"))
    rig.run()
    rig.site.at[JWKS] = fail()
    rig.run(90_000)
    assert rig.kids is None
    rig.site.at[JWKS] = publish(K2)
    rig.run(60)
    assert rig.kids == {"k2"}


@pytest.mark.parametrize("part", ["on_refresh", "wake"])
def test_a_span_or_a_wake_up_that_breaks_costs_nothing_but_itself(part: str) -> None:
    """What is called outside the feed may raise as well."""
    parts: dict[str, Any] = {part: raiser(ZeroDivisionError())}
    rig = Rig(**parts)
    answer = rig.ask()
    assert answer is not None
    assert answer.is_set()
    rig.site.at[JWKS] = publish(K2)
    rig.run(570)
    assert rig.kids == {"k2"}


def test_who_breaks_when_answered_costs_the_others_nothing() -> None:
    """Thousands may wait for one refresh: each is answered, whatever the one before did."""
    rig = Rig()
    rig.hold = True
    before = rig.ask()
    rig.feed.ask(raiser(ZeroDivisionError()))
    after = rig.ask()
    rig.finish()
    assert before is not None
    assert after is not None
    assert (before.is_set(), after.is_set()) == (True, True)
    rig.feed.ask(raiser(ZeroDivisionError()))  # answered at once, for the budget is used up


def test_the_schedule_is_woken_once_the_refresh_has_ended() -> None:
    """The scheduler looks when the next one is due, not before that is known, and not after the disk."""
    woken: list[float] = []
    rig: Rig
    rig = Rig(wake=lambda: woken.append(rig.feed.due()), cache=lambda _: SlowDiskOnce(woken))
    rig.run()
    assert woken == [rig.feed.due()]


class SlowDiskOnce(SlowDisk):
    """A disk by whose first write the schedule must have been woken."""

    def __init__(self, woken: list[float]) -> None:
        super().__init__()
        self._woken = woken

    def save(self, document: bytes, fetched_at: float, authorities: str) -> None:
        assert self._woken


def test_a_published_set_is_there_when_the_refresh_is_seen_to_have_ended() -> None:
    """Who finds no refresh under way finds its keys: anyone who publishes sees the refresh still under way."""
    seen: list[bool] = []
    rig = Rig()
    publish_keys = rig.feed._publish

    def watch(keys: KeySet | None) -> None:
        now = rig.clock.monotonic()
        found = rig.feed.search(first_asked=now, grace=0.0)
        seen.append(found is Search.NOW and rig.feed.view.state.running)
        publish_keys(keys)

    rig.feed._publish = watch  # type: ignore[misc]
    rig.run()
    assert seen == [True]


def test_a_document_that_breaks_while_it_is_published_is_a_failed_refresh() -> None:
    """Whatever raises, the refresh ends, and the next attempt comes after a back-off."""
    rig = Rig()
    publish_keys = rig.feed._publish
    rig.feed._publish = raiser(RefreshError(Refresh.INTERNAL_ERROR, "no"))  # type: ignore[misc]
    answer = rig.ask()
    assert answer is not None
    assert answer.is_set()
    assert rig.feed.status().value is None
    rig.feed._publish = publish_keys  # type: ignore[misc]
    rig.run(1)
    assert rig.kids == {"k1"}
