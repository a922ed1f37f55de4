"""Race connection attempts to several addresses (RFC 8305): the first that is complete wins, the others are closed.

Rules of this file:
1. Attempts start PACE_SECONDS apart, the next one at once if one fails, and none is cut short for another.
2. One deadline holds for all of them together.
3. All run on the calling thread, over non-blocking sockets and one selector: no thread can be left behind.
4. What did not win is closed, whatever ends the race.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import chain, zip_longest
from selectors import DefaultSelector, SelectorKey
from typing import Final, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

PACE_SECONDS: Final = 0.25  # the Connection Attempt Delay that RFC 8305 section 5 recommends

Attempt: TypeAlias = Generator[tuple[int, int], None, T]
"""One attempt: it yields the descriptor and event (selectors.EVENT_READ, EVENT_WRITE) that it waits for.

It returns what it made, raises OSError if it fails, and cleans up when it is closed.
"""


class Selector(Protocol):
    """What a race needs of a selector of the standard library."""

    def register(self, fileobj: int, events: int, /) -> SelectorKey:
        """Watch a descriptor."""

    def unregister(self, fileobj: int, /) -> SelectorKey:
        """Stop watching it."""

    def select(self, timeout: float, /) -> list[tuple[SelectorKey, int]]:
        """Wait until a descriptor is ready, at most *timeout* seconds."""

    def close(self) -> None:
        """Release its resources."""


def race(
    attempts: Sequence[Attempt[T]],
    *,
    deadline: float,
    pace: float = PACE_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
    make_selector: Callable[[], Selector] = DefaultSelector,
) -> T:
    """Run one or more *attempts* until one returns, and return that. *deadline* is monotonic, *pace* is in seconds.

    Raises TimeoutError, or what an attempt raised if all of them failed. A fault of TLS comes before either, because it
    was found at a server that can be reached.
    """
    selector = make_selector()
    waiting, running = deque(attempts), dict[int, Attempt[T]]()  # the running ones by the descriptor they wait for
    errors: list[OSError] = []
    start_at = monotonic()
    try:
        while waiting or running:
            now = monotonic()
            if now >= deadline:
                raise _most_telling([*errors, TimeoutError("no connection in time")])
            if waiting and now >= start_at:
                ready, start_at = [waiting.popleft()], now + pace
            else:
                ready = _wait(selector, running, (min(start_at, deadline) if waiting else deadline) - now)
            for attempt in ready:
                try:
                    descriptor, event = next(attempt)
                except StopIteration as done:
                    won: T = done.value
                    return won
                except OSError as error:
                    errors.append(error)
                    start_at = now
                else:
                    selector.register(descriptor, event)
                    running[descriptor] = attempt
        raise _most_telling(errors)
    finally:
        selector.close()
        for attempt in attempts:
            attempt.close()


def interleave(addresses: Sequence[str]) -> list[str]:
    """Return IP *addresses* with the two families in turn, in their order otherwise (RFC 8305 section 4)."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    first, second = (six, four) if addresses[:1] == six[:1] else (four, six)
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]


def _wait(selector: Selector, running: dict[int, Attempt[T]], seconds: float) -> list[Attempt[T]]:
    """Take out of *running* what can go on."""
    ready = [key.fd for key, _ in selector.select(seconds)]
    for descriptor in ready:
        selector.unregister(descriptor)  # before the attempt goes on, which may close it
    return [running.pop(descriptor) for descriptor in ready]


def _most_telling(errors: Sequence[OSError]) -> OSError:
    tls = [error for error in errors if isinstance(error, ssl.SSLError)]
    return tls[-1] if tls else errors[-1]
