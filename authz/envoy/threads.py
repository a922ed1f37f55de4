"""The threads that answer calls, with as few steps between grpcio and them as can be.

`ThreadPoolExecutor` makes a Future with a lock of its own for every call, which grpcio never waits for: a quarter of
what a call costs that does nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from enum import Enum, auto
from queue import SimpleQueue
from threading import Thread, local
from typing import Any, Final

log = logging.getLogger(__name__)

_Call = tuple[float, Callable[..., object], tuple[Any, ...]]


class Lane(Enum):
    """Calls that never wait for those of another lane."""

    JUDGED = auto()
    REFUSED = auto()
    HEALTH = auto()


class CallThreads(Executor):
    """So many threads for each lane. Those of JUDGED know how many calls they hold, the ones in the queue included.

    *given_up* is told of each call of that lane that ends without `begin`: grpcio drops one that nobody waits for any
    more.
    """

    def __init__(
        self,
        number: Mapping[Lane, int],
        given_up: Callable[[], None] = lambda: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given_up: Final = given_up
        self._monotonic: Final = monotonic
        self._calls: Final[dict[Lane, SimpleQueue[_Call | None]]] = {lane: SimpleQueue() for lane in number}
        self._threads: Final = dict(number)
        self._current: Final = local()
        self._lane = Lane.JUDGED
        # Each number has one writer, and needs no lock: grpcio's one serving thread, and each of ours.
        self._taken = 0
        self._ended: Final = [0] * number[Lane.JUDGED]
        for lane, threads in number.items():
            for index in range(threads):
                work = (index,) if lane is Lane.JUDGED else (lane,)
                target: Callable[..., None] = self._judge if lane is Lane.JUDGED else self._work
                Thread(target=target, args=work, name=f"{lane.name.lower()}-{index}", daemon=True).start()

    @property
    def held(self) -> int:
        """How many calls wait to be judged, or are."""
        return self._taken - sum(self._ended)

    def are_crowded(self) -> bool:
        """Tell whether calls wait for a thread to judge them."""
        return self.held > len(self._ended)

    def choose(self, lane: Lane) -> None:
        """Let the next call that is submitted go to *lane*: grpcio submits each right after it looked it up."""
        self._lane = lane

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - as Executor
        """Have *fn* called on one of the threads; the Future says nothing about it. grpcio passes no *kwargs*."""
        if kwargs:
            raise TypeError("a call has no keyword arguments")
        lane, self._lane = self._lane, Lane.JUDGED
        if lane is Lane.JUDGED:
            self._taken += 1
        self._calls[lane].put((self._monotonic(), fn, args))
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
        for lane, threads in self._threads.items():
            for _ in range(threads):
                self._calls[lane].put(None)

    def _judge(self, index: int) -> None:
        current, take = self._current, self._calls[Lane.JUDGED].get
        while (call := take()) is not None:
            current.begun = False
            try:
                self._answer(call)
                if not current.begun:
                    self._given_up()
            finally:
                self._ended[index] += 1
            del call  # it lives no longer than its answer

    def _work(self, lane: Lane) -> None:
        take = self._calls[lane].get
        while (call := take()) is not None:
            self._answer(call)
            del call

    def _answer(self, call: _Call) -> None:
        self._current.received, act, args = call
        try:
            act(*args)
        except BaseException:  # one call's trouble must not cost a thread
            with suppress(BaseException):  # nor must telling of it
                log.exception("a call ended badly")


_NOTHING_TO_WAIT_FOR: Final[Future[None]] = Future()
_NOTHING_TO_WAIT_FOR.set_result(None)
