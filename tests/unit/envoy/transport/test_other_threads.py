"""Proves authz.envoy.transport.other_threads: a thread that has work counts until it sleeps, once a round."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

from authz.envoy.transport.other_threads import OtherThreads
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.unit.envoy.transport.stub import busy_thread, spinning


def test_a_thread_that_has_work_has_not_slept() -> None:
    """It may hold what was read, however long it waits for a processor."""
    others = OtherThreads()
    with busy_thread() as busy:
        assert not any(others.have_slept() for _ in range(100))
        assert busy.is_alive()
    wait_until(others.have_slept)


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
            wait_until(lambda: not others.have_slept() and str(worker.native_id) in others._slept)
            awake.set()
            assert at_work.wait(HANG_SECONDS)
            assert not others.have_slept()
        wait_until(others.have_slept)
        assert not any(others.have_slept() for _ in range(100))
    worker.join()


def test_where_the_system_does_not_say_what_threads_do_each_call_is_a_round(tmp_path: Path) -> None:
    """There only time tells that nothing is on its way."""
    with busy_thread():
        assert OtherThreads(tmp_path / "none").have_slept()
