"""Proves what is remembered of key ids that no one publishes, however many a stranger names."""

from __future__ import annotations

from authz.feeds.unknown_kids import UnknownKids


def test_the_first_sight_counts() -> None:
    """A key id is as old as its first token; a token without one is like any other id."""
    unknown_kids = UnknownKids()
    assert [unknown_kids.first_seen("k", now) for now in (1.0, 2.0, 3.0)] == [1.0] * 3
    assert [unknown_kids.first_seen(None, now) for now in (4.0, 5.0)] == [4.0] * 2


def test_a_flood_costs_bounded_memory_and_forgets_the_oldest() -> None:
    """What was dropped is first seen again, which is safe: it is "try again", and never "there is no such key"."""
    unknown_kids = UnknownKids(max_cached=100)
    unknown_kids.first_seen("k", 0.0)
    for number in range(99):
        unknown_kids.first_seen(f"random-{number}", 1.0)
    unknown_kids.first_seen("first of the next generation", 2.0)
    assert unknown_kids.first_seen("k", 3.0) == 0.0
    for number in range(1_000):
        unknown_kids.first_seen(f"more-{number}", 4.0)
    assert unknown_kids.first_seen("k", 5.0) == 5.0
    assert len(unknown_kids._newer) + len(unknown_kids._older) <= 200
