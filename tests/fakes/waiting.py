"""The one way for a test of processes and threads to wait: for a condition, however long this machine takes for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

HANG_SECONDS: Final = 300.0
"""After so long nothing will come any more: a bound for what may hang, and no figure by which anything is evaluated."""

_POLL_SECONDS: Final = 0.02


def wait_until(condition: Callable[[], bool], *, seconds: float = HANG_SECONDS) -> None:
    """Wait until the condition holds; fail if it never does. Only a measurement has a figure of *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(_POLL_SECONDS)
