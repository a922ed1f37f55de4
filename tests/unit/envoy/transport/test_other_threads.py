"""Proves authz.envoy.transport.other_threads: a thread that has work counts until it sleeps, once a round."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread

from authz.envoy.transport.other_threads import OtherThreads
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.unit.envoy.transport.stub import busy_thread, spinning


def test_a_thread_that_has_work_has_not_slept() -> None:
    """It may hold what was read, however long it waits for a processor."""
    others = OtherThreads()
    with busy_thread() as busy:
        assert not any(others.have_slept() or others.all_sleep() for _ in range(100))
        assert busy.is_alive()
    wait_until(others.have_slept)
    wait_until(others.all_sleep)


def test_threads_that_sleep_in_turn_do_not_all_sleep() -> None:
    """One of two that hand work to each other has it at any moment, and runs."""
    others, done = OtherThreads(), Event()
    left, right = os.pipe(), os.pipe()

    def hand_on(source: int, target: int) -> None:
        while os.read(source, 1) and not done.is_set():
            os.write(target, b"x")
        os.write(target, b"x")

    hands = [Thread(target=hand_on, args=(left[0], right[1])), Thread(target=hand_on, args=(right[0], left[1]))]
    for hand in hands:
        hand.start()
    os.write(left[1], b"x")
    assert not any(others.all_sleep() for _ in range(200))
    wait_until(others.have_slept)
    done.set()
    for hand in hands:
        hand.join()
    for end in (*left, *right):
        os.close(end)


def test_a_thread_counts_once_a_round() -> None:
    """What it does after it slept delays this round no more, and counts in the next."""
    others, awake, at_work = OtherThreads(), Event(), Event()

    def work() -> None:
        awake.wait()
        at_work.set()
        spin()

    with spinning() as spin:
        worker = Thread(target=work)
        with busy_thread():
            worker.start()
            wait_until(lambda: not others.have_slept() and others._threads / str(worker.native_id) in others._slept)
            awake.set()
            assert at_work.wait(HANG_SECONDS)
            assert not others.have_slept()
        wait_until(others.have_slept)
        assert not any(others.have_slept() for _ in range(100))
    worker.join()


def test_where_the_system_does_not_say_what_threads_do_each_call_is_a_round(tmp_path: Path) -> None:
    """There only time tells that nothing is on its way."""
    with busy_thread():
        others = OtherThreads(tmp_path / "none")
        assert others.have_slept()
        assert others.all_sleep()
