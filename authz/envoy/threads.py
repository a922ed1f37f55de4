"""The threads that judge calls, with as few steps between grpcio and them as can be.

`ThreadPoolExecutor` makes a Future with a lock of its own for every call, which grpcio never waits for: a quarter of
what a call costs that does nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread, local
from typing import Any, Final

log = logging.getLogger(__name__)

_Call = tuple[float, Callable[..., object], tuple[Any, ...]]


class CallThreads(Executor):
    """Threads that know how many calls they hold, those in the queue included.

    *given_up* is told of each call that ends without `begin`: grpcio drops one that nobody waits for any more.
    """

    def __init__(
        self,
        number: int,
        given_up: Callable[[], None] = lambda: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given_up: Final = given_up
        self._monotonic: Final = monotonic
        self._calls: Final[SimpleQueue[_Call | None]] = SimpleQueue()
        self._current: Final = local()
        # Each number has one writer, and needs no lock: grpcio's one serving thread, and each of ours.
        self._taken = 0
        self._ended: Final = [0] * number
        for index in range(number):
            Thread(target=self._work, args=(index,), name=f"check-{index}", daemon=True).start()

    @property
    def held(self) -> int:
        """How many calls wait or are judged."""
        return self._taken - sum(self._ended)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - as Executor
        """Have *fn* called on one of the threads; the Future says nothing about it. grpcio passes no *kwargs*."""
        if kwargs:
            raise TypeError("a call has no keyword arguments")
        self._taken += 1
        self._calls.put((self._monotonic(), fn, args))
        return _NOTHING_TO_WAIT_FOR

    @property
    def received(self) -> float:
        """When the call on this thread came, on the monotonic clock."""
        at: float = self._current.received
        return at

    def begin(self) -> None:
        """Note that the call on this thread is judged."""
        self._current.begun = True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as Executor
        """Let the threads end after the calls that they hold; nobody waits for them."""
        for _ in self._ended:
            self._calls.put(None)

    def _work(self, index: int) -> None:
        current, take = self._current, self._calls.get
        while (call := take()) is not None:
            current.received, act, args = call
            current.begun = False
            try:
                act(*args)
                if not current.begun:
                    self._given_up()
            except BaseException:  # one call's trouble must not cost a thread
                log.exception("a call ended badly")
            finally:
                self._ended[index] += 1
            del call, act, args  # a call lives no longer than its answer


_NOTHING_TO_WAIT_FOR: Final[Future[None]] = Future()
_NOTHING_TO_WAIT_FOR.set_result(None)
