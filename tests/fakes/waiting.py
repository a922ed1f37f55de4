"""The one way for a test of processes and threads to wait: for a condition, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    """Wait until the condition holds; fail the test where it does not within so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(POLL_SECONDS)
