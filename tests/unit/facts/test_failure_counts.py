"""Proves authz.facts.failure_counts: sliding windows count right, and floods of names evict none that is worse."""

from __future__ import annotations

import sys
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.throttle import Throttle
from authz.facts.failure_counts import HOUR, MINUTE, NAMES_PER_BUCKET, SLOTS, FailureCount, FailureCounts
from tests.fakes.clock import FakeClock

TWENTY = Throttle(failures=20, window=60.0)
WORST = "192.0.2.66"


def counts(clock: FakeClock, max_names: int = 800) -> FailureCounts:
    """Make counts that use *clock*."""
    return FailureCounts(max_names=max_names, monotonic=clock.monotonic)


def fail(counted: FailureCounts, name: str, times: int, throttle: Throttle | None = TWENTY) -> None:
    """Let *name* fail several times at once."""
    for _ in range(times):
        counted.count(name, throttle)


def test_failures_are_counted_by_name_in_two_windows() -> None:
    """A name has its own failures of the last minute and the last hour; one that never failed has none."""
    clock = FakeClock()
    counted = counts(clock)
    fail(counted, "a", 3)
    fail(counted, "b", 1)
    assert counted.get("a") == FailureCount("a", 3, 3)
    assert counted.get("b") == FailureCount("b", 1, 1)
    assert counted.get("c") is None
    clock.advance(MINUTE)
    fail(counted, "a", 2)
    assert counted.get("a") == FailureCount("a", 2, 5)
    clock.advance(HOUR)
    assert counted.get("a") == FailureCount("a", 0, 0)
    assert list(counted.all()) == []


@given(st.lists(st.floats(0, 200), max_size=40), st.floats(0, 100))
def test_a_window_never_counts_what_is_older_and_forgets_little_before(pauses: list[float], later: float) -> None:
    """Each count lies between the failures of the last window, and those of its last five sixths."""
    clock = FakeClock()
    counted, at = counts(clock), []
    for pause in pauses:
        clock.advance(pause)
        counted.count("a")
        at.append(clock.monotonic())
    clock.advance(later)
    now = clock.monotonic()
    found = counted.get("a") or FailureCount("a", 0, 0)
    for total, window in ((found.minute, MINUTE), (found.hour, HOUR)):
        least = sum(now - each < window * (SLOTS - 1) / SLOTS - 1e-6 for each in at)
        most = sum(now - each < window + 1e-6 for each in at)
        assert least <= total <= most


def test_a_name_is_throttled_after_so_many_failures_and_until_one_is_forgiven() -> None:
    """Twenty failures at once are the limit; three seconds later, a twentieth of the minute, there is room for one."""
    clock = FakeClock()
    counted = counts(clock)
    fail(counted, "a", 19)
    assert counted.throttled_for("a", TWENTY) == 0.0
    fail(counted, "a", 1)
    assert counted.throttled_for("a", TWENTY) == pytest.approx(3.0)
    assert counted.throttled_for("b", TWENTY) == 0.0
    clock.advance(2.9)
    assert counted.throttled_for("a", TWENTY) == pytest.approx(0.1)
    clock.advance(0.2)
    assert counted.throttled_for("a", TWENTY) == 0.0
    fail(counted, "a", 1)
    assert counted.throttled_for("a", TWENTY) == pytest.approx(2.9, abs=0.01)


def test_failures_beyond_the_limit_do_not_prolong_it() -> None:
    """A client that goes on failing, as in shadow, is throttled no longer than a limit of one more failure."""
    clock = FakeClock()
    counted = counts(clock)
    fail(counted, "a", 500)
    assert counted.throttled_for("a", TWENTY) == pytest.approx(3.0)


def test_a_slow_client_is_never_throttled() -> None:
    """Failures that come no faster than they are forgiven never add up."""
    clock = FakeClock()
    counted = counts(clock)
    for _ in range(200):
        fail(counted, "a", 1)
        assert counted.throttled_for("a", TWENTY) == 0.0
        clock.advance(3.0)


def test_a_flood_of_networks_does_not_evict_the_worst_one() -> None:
    """Twenty thousand networks with one failure each leave the worst one in place, among a bounded number."""
    clock = FakeClock()
    counted = counts(clock, max_names=80)
    fail(counted, WORST, 20)
    for number in range(20_000):
        counted.count(f"{IPv6Address((0x20010DB8 << 96) + (number << 64))}/64", TWENTY)
        clock.advance(0.00001)
    assert counted.get(WORST) == FailureCount(WORST, 20, 20)
    assert counted.throttled_for(WORST, TWENTY) > 0.0
    assert len(list(counted.all())) <= 80


def test_a_new_network_takes_over_no_count_of_another() -> None:
    """Where all places are taken, a stranger's failures never become those of a new name."""
    clock = FakeClock()
    counted = counts(clock, max_names=NAMES_PER_BUCKET)
    for number in range(NAMES_PER_BUCKET):
        fail(counted, f"stranger {number}", 30)
    fail(counted, "new", 1)
    assert counted.get("new") == FailureCount("new", 1, 1)
    assert counted.throttled_for("new", TWENTY) == 0.0


def test_an_old_failure_makes_room_before_a_new_one() -> None:
    """Of names with equally many failures, the one that failed longest ago goes."""
    clock = FakeClock()
    counted = counts(clock, max_names=NAMES_PER_BUCKET)
    for number in range(NAMES_PER_BUCKET):
        counted.count(f"{number}")
        clock.advance(1.0)
    counted.count("0")
    counted.count("0")
    counted.count("new")
    assert counted.get("1") is None
    assert counted.get("0") == FailureCount("0", 3, 3)


def test_memory_stays_within_what_is_documented() -> None:
    """Ten thousand failing networks take no more than 700 octets each."""
    clock = FakeClock()
    counted = counts(clock, max_names=10_000)
    for number in range(30_000):
        fail(counted, f"{IPv6Address((0x20010DB8 << 96) + (number << 64))}/64", 1)
    kept = list(counted.all())
    assert len(kept) <= 10_000
    assert size_of(counted) <= 700 * 10_000


def size_of(value: object, seen: set[int] | None = None) -> int:
    """Return the octets of *value* and all that it refers to, except types and functions."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type) or callable(value):
        return 0
    seen.add(id(value))
    parts: list[object] = []
    if isinstance(value, dict):
        parts += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        parts += value
    else:
        names = [name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())]
        parts += [getattr(value, name) for name in names] + [getattr(value, "__dict__", None)]
    return sys.getsizeof(value) + sum(size_of(part, seen) for part in parts)
