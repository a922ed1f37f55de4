"""Proves that calls that may never return are made one at a time, and hold up no caller for longer than it says."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Event, Thread, current_thread

import pytest

from authz.signing.port import Failure, SigningUnavailable
from authz.signing.serial_calls import SerialCalls
from tests.fakes.waiting import HANG_SECONDS


class _Gate:
    """A call that returns when it may."""

    def __init__(self) -> None:
        self.begun, self.may_return = Event(), Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_return.wait(HANG_SECONDS)
        return "late"


def test_one_thread_makes_all_calls() -> None:
    """The caller gets what the call returns, or what it raises."""
    calls = SerialCalls("the device")
    threads = [calls.run(current_thread, seconds=HANG_SECONDS) for _ in range(3)]
    assert len({*threads, current_thread()}) == 2
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 // 0, seconds=HANG_SECONDS)
    assert calls.run(lambda: "again", seconds=HANG_SECONDS) == "again"


def test_a_call_that_does_not_return() -> None:
    """Its caller gives up, those behind it too; when it returns, the next one gets its own result."""
    calls, gate = SerialCalls("the device"), _Gate()
    assert not calls.is_stuck
    for _ in range(2):
        with pytest.raises(SigningUnavailable, match=r"^the device hangs: a call has not returned for 0 s$") as caught:
            calls.run(gate, seconds=0.0)
        assert (caught.value.failure, calls.is_stuck) == (Failure.TIMEOUT, True)
    gate.may_return.set()
    assert calls.run(lambda: "next", seconds=HANG_SECONDS) == "next"
    assert not calls.is_stuck


def test_a_call_that_may_take_long() -> None:
    """One that opens a key is waited for until its end; only its turn must come in time."""
    calls, gate = SerialCalls("the device"), _Gate()
    results = SimpleQueue[str]()
    Thread(target=lambda: results.put(calls.run(gate, seconds=0.0, until_end=True))).start()
    assert gate.begun.wait(HANG_SECONDS)
    with pytest.raises(SigningUnavailable):
        calls.run(gate, seconds=0.0, until_end=True)
    assert not calls.is_stuck  # its caller waits
    gate.may_return.set()
    assert results.get(timeout=HANG_SECONDS) == "late"
