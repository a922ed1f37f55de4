"""Proves that the thread which evaluates requests takes no lock that the work on keys in the background may hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any, Final

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from authz.core.needs import KEY, Need, Unanswered
from authz.demo.signing import SigningKey
from authz.feeds.key_lane import KeyLane
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.spans import Spans
from tests.fakes.idp import FakeIdp
from tests.integration.station import Station

HANG: Final = 120.0  # seconds; only ends a test that would hang
_LOCKS: Final = (type(threading.Lock()), type(threading.RLock()))
_OURS: Final = ("authz.", "prometheus_client", "threading")


def locks_within(*roots: object) -> dict[str, list[Any]]:
    """Return every lock that can be reached from *roots*, by the class that has it."""
    found: dict[str, list[Any]] = {}
    seen: set[int] = set()
    stack: list[tuple[str, object]] = [("", root) for root in roots]
    while stack:
        owner, thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, _LOCKS):
            found.setdefault(owner, []).append(thing)
        elif isinstance(thing, threading.Condition):
            stack.append((owner, thing._lock))  # type: ignore[attr-defined]  # its other locks are those who wait
        elif isinstance(thing, Mapping):
            stack += [(owner, value) for value in thing.values()]
        elif isinstance(thing, Sequence | set | frozenset) and not isinstance(thing, str | bytes):
            stack += [(owner, value) for value in thing]
        elif not isinstance(thing, threading.Thread) and type(thing).__module__.startswith(_OURS):
            stack += [(type(thing).__name__, value) for value in _parts(thing)]
    return found


def _parts(thing: object) -> Iterator[object]:
    yield from getattr(thing, "__dict__", {}).values()
    for base in type(thing).__mro__:
        for slot in getattr(base, "__slots__", ()):
            yield getattr(thing, slot, None)


@contextmanager
def holding(locks: Mapping[str, Sequence[Any]]) -> Iterator[None]:
    """Hold all *locks*."""
    with ExitStack() as held:
        for lock in chain.from_iterable(locks.values()):
            assert lock.acquire(timeout=HANG)
            held.callback(lock.release)
        yield


def on_the_judging_thread(check: Callable[[], object]) -> object:
    """Run *check* on a thread of its own, which owns no lock; return what it returns."""
    returned: list[object] = []
    thread = threading.Thread(target=lambda: returned.append(check()), daemon=True)
    thread.start()
    thread.join(HANG)
    assert returned, "the check waits for a lock"
    return returned[0]


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer."""
    with FakeIdp() as provider:
        yield provider


@pytest.fixture
def sidecar(idp: FakeIdp) -> Iterator[Station]:
    """A sidecar that has the issuer's keys."""
    section = f"  a: {{issuer: '{idp.issuer}', audiences: [api], insecure: {{http: true}}}}\n"
    with Station(section).settle() as station:
        yield station


def test_checks_take_no_lock_of_the_keys(idp: FakeIdp, sidecar: Station) -> None:
    """With every lock of feeds, store, signature cache and key metrics held, traced checks are decided.

    A known key whose signature is cached and one that is not; an unknown key for which a refresh may be asked, and,
    once it was, one for which none may.
    """
    memory = InMemorySpanExporter()
    spans = Spans(
        memory,
        resource=Resource({"service.name": "test"}),
        max_waiting=1000,
        pause_millis=10.0,
        now_ns=time.time_ns,
        keys_age=sidecar.issuers.keys_age,
        dropped=lambda _: None,
    )

    def trace(record: CheckRecord) -> None:
        spans.write_check(record, None)

    sidecar.report = trace
    lane, unknown = KeyLane(sidecar.issuers.feeds, max_waiting=8), Need(KEY, "a", "unknown")
    cached, fresh = idp.mint(), idp.mint(sub="bob")
    forged = idp.mint(key=SigningKey.create("ES256", kid=idp.key.kid))
    stray = idp.mint(header={**idp.key.header(), "kid": "unknown"})
    assert sidecar.ask(cached) == "authenticated"
    locks = locks_within(
        sidecar.issuers, sidecar.store, sidecar.signatures, sidecar.usage, sidecar.key_metrics, sidecar.scheduler
    )
    assert locks.keys() >= {"Feed", "SnapshotStore", "MutexValue"}
    with holding(locks):
        assert on_the_judging_thread(lambda: sidecar.ask(cached)) == "authenticated"
        assert on_the_judging_thread(lambda: sidecar.ask(fresh)) == "authenticated"
        assert on_the_judging_thread(lambda: lane.find(unknown)) is None
    assert sidecar.ask(stray) == "keys_unavailable"
    with holding(locks):
        assert on_the_judging_thread(lambda: sidecar.ask(stray)) == "keys_unavailable"
        assert isinstance(on_the_judging_thread(lambda: lane.find(unknown)), Unanswered)
        assert on_the_judging_thread(lambda: sidecar.ask(forged)) == "signature_invalid"
        assert on_the_judging_thread(lambda: lane.max_wait(unknown)) == sidecar.feed("a").schedule.max_wait
    spans.stop()
    ages = [(span.attributes or {})["authz.keys.age_s"] for span in memory.get_finished_spans()]
    assert len(ages) == 6
    assert all(isinstance(age, float) for age in ages)


def test_eviction_takes_no_lock_at_all(sidecar: Station) -> None:
    """Ten thousand remembered signatures hold no one up: there is nothing to hold up with."""
    assert locks_within(sidecar.signatures) == {}
