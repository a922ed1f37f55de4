"""Calls to a library that serves one thread at a time, and that may never return from a call.

Rules of this file:
1. One thread makes all calls, in turn: no caller is ever in the library itself, and none waits for longer than it says.
2. A call cannot be ended from outside. Until it returns, nothing else can be called; when it does, its result is
   dropped, and the next caller has its turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Final, TypeVar

from authz.signing.port import Failure, SigningUnavailable

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Call:
    """One call; *given_up* is set if its caller did not wait for the end."""

    function: Callable[[], Any]
    ended: SimpleQueue[tuple[Any, BaseException | None]] = field(default_factory=SimpleQueue)
    given_up: bool = False


class SerialCalls:
    """Calls what is *named* so in errors, on one thread, which begins with the first call."""

    def __init__(self, named: str) -> None:
        self._named: Final = named
        self._turn: Final = Lock()  # held from the beginning of a call to its end, which another thread sees
        self._inbox: SimpleQueue[_Call] | None = None
        self._current: _Call | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether a call has not returned that its caller gave up."""
        current = self._current
        return current is not None and current.given_up

    def run(self, function: Callable[[], _T], *, seconds: float, until_end: bool = False) -> _T:
        """Return the result of *function*, or raise what it raises; with *until_end*, only its turn is waited for.

        Raises SigningUnavailable after *seconds*.
        """
        deadline = time.monotonic() + seconds
        before = self._current
        if not self._turn.acquire(timeout=seconds):
            if before is not None and before is self._current:
                raise self._stuck(seconds)
            raise SigningUnavailable(f"{self._named} is busy: not free within {seconds:g} s", Failure.TIMEOUT)
        call = self._current = _Call(function)
        try:
            self._thread_inbox().put(call)
        except RuntimeError:
            self._end_turn()
            raise SigningUnavailable(f"{self._named}: no thread can be started") from None
        try:
            result, error = call.ended.get(timeout=None if until_end else max(0.0, deadline - time.monotonic()))
        except Empty:
            call.given_up = True
            raise self._stuck(seconds) from None
        if error is not None:
            raise error
        value: _T = result
        return value

    def _stuck(self, seconds: float) -> SigningUnavailable:
        return SigningUnavailable(f"{self._named} hangs: a call has not returned for {seconds:g} s", Failure.TIMEOUT)

    def _thread_inbox(self) -> SimpleQueue[_Call]:
        """Return where the thread finds calls. Raises RuntimeError if it cannot be started."""
        if self._inbox is None:
            inbox: SimpleQueue[_Call] = SimpleQueue()
            Thread(target=self._make_calls, args=(inbox,), name=f"calls {self._named}", daemon=True).start()
            self._inbox = inbox
        return self._inbox

    def _make_calls(self, inbox: SimpleQueue[_Call]) -> None:
        while True:
            call = inbox.get()
            try:
                ended: tuple[Any, BaseException | None] = call.function(), None
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                ended = None, error
            self._end_turn()
            call.ended.put(ended)
            del call, ended  # a result may be a secret, and the next call may be long in coming

    def _end_turn(self) -> None:
        self._current = None
        self._turn.release()
