"""Proves that the kernel's books are read right."""

from __future__ import annotations

import os

import pytest

from tests.bench.accounting import busy_seconds, count_switches, cpu_seconds, descendants, family, parse_parent, rss_mb

STAT = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 100 0 50 700 30 10 5 35 20 0\ncpu10 1 1 1 1 1 1 1 1 0 0\nintr 5\n"


def test_switches() -> None:
    """Those that a thread wanted count as well as those that it suffered."""
    assert count_switches("Threads:\t4\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n") == 42


def test_busy_is_all_but_idle() -> None:
    """Idle and iowait are left out, interrupts and stolen time are not, and guests are not counted twice."""
    assert busy_seconds(STAT, 1) == 200 / os.sysconf("SC_CLK_TCK")


def test_parent_behind_any_name() -> None:
    """A name of spaces and parentheses does not shift the fields."""
    assert parse_parent("12 (a) b) (c) S 7 12 12 0 -1") == (12, 7)


def test_descendants() -> None:
    """Children and their children are found, and no one else's."""
    assert descendants(1, {1: 0, 2: 1, 3: 2, 4: 1, 9: 8}) == (1, 2, 3, 4)


def test_own_books() -> None:
    """This process is of its own family, has used time and has memory."""
    assert os.getpid() in family(os.getpid())
    assert cpu_seconds(os.getpid()) > 0
    assert rss_mb([os.getpid()]) > 1


@pytest.mark.parametrize("read", [cpu_seconds, lambda pid: rss_mb([pid])])
def test_who_has_ended_has_nothing(read: object) -> None:
    """A process that ends between two looks is no error."""
    assert callable(read)
    assert read(2**22 + 1) == 0
