"""Race connection attempts to several addresses (RFC 8305): the first that is complete wins, the others are closed.

Rules of this file:
1. Attempts start ATTEMPT_DELAY apart. If one fails, the next one starts at once. Running attempts continue.
2. All attempts share one deadline.
3. All run on the calling thread, with non-blocking sockets and one selector: no thread can be left running.
4. All other attempts are closed, however the race ends.
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

ATTEMPT_DELAY: Final = 0.25  # the Connection Attempt Delay that RFC 8305 section 5 recommends

Attempt: TypeAlias = Generator[tuple[int, int], None, T]
"""One attempt: it yields the descriptor and the event (selectors.EVENT_READ or EVENT_WRITE) that it waits for.

It returns its result, raises OSError if it fails, and cleans up when it is closed.
"""


class Selector(Protocol):
    """The methods of the standard library's selectors that a race uses."""

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
    attempt_delay: float = ATTEMPT_DELAY,
    monotonic: Callable[[], float] = time.monotonic,
    make_selector: Callable[[], Selector] = DefaultSelector,
) -> T:
    """Run one or more *attempts* until one returns; return its result.

    *deadline* is on the monotonic clock, *attempt_delay* in seconds.

    Raises TimeoutError, or the exception of the last attempt if all failed. A TLS error takes precedence, because it
    comes from a server that can be reached.
    """
    selector = make_selector()
    waiting, running = deque(attempts), dict[int, Attempt[T]]()  # running attempts by the descriptor that they wait for
    errors: list[OSError] = []
    start_at = monotonic()
    try:
        while waiting or running:
            now = monotonic()
            if now >= deadline:
                raise _most_specific([*errors, TimeoutError("no connection in time")])
            if waiting and now >= start_at:
                ready, start_at = [waiting.popleft()], now + attempt_delay
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
        raise _most_specific(errors)
    finally:
        selector.close()
        for attempt in attempts:
            attempt.close()


def interleave(addresses: Sequence[str]) -> list[str]:
    """Return IP *addresses* with alternating families, otherwise in their order (RFC 8305 section 4)."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    first, second = (six, four) if addresses[:1] == six[:1] else (four, six)
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]


def _wait(selector: Selector, running: dict[int, Attempt[T]], seconds: float) -> list[Attempt[T]]:
    """Wait; remove the attempts that can continue from *running* and return them."""
    ready = [key.fd for key, _ in selector.select(seconds)]
    for descriptor in ready:
        selector.unregister(descriptor)  # before the attempt continues, because it may close it
    return [running.pop(descriptor) for descriptor in ready]


def _most_specific(errors: Sequence[OSError]) -> OSError:
    tls = [error for error in errors if isinstance(error, ssl.SSLError)]
    return tls[-1] if tls else errors[-1]
