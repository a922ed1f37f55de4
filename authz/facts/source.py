"""The interface of a source of facts, such as an introspection endpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from authz.core.needs import Need
from authz.facts.loop import Loop


@dataclass(frozen=True, slots=True)
class Fact:
    """An answer of a source. It is cached for *ttl* seconds, and not at all with 0.

    It takes *size* bytes. *result* is a label for metrics. *negative* facts are those that any client can cause, such
    as that a token is not active.
    """

    value: object
    ttl: float = 0.0
    size: int = 0
    result: str = "answered"
    negative: bool = False


class SourceError(Exception):
    """Raised by a source that cannot answer: the text is for the operator, *result* a label for metrics.

    With *counts*, it counts as a failure of the source: several in a row open the circuit breaker. If the source has
    *responded*, they do not, because a client can choose its question: the response proves that others can be answered.
    *absent* means that the source does not answer at all, whatever the question.
    """

    def __init__(
        self, result: str, why: str, *, counts: bool = True, absent: bool = False, responded: bool = False
    ) -> None:
        super().__init__(why)
        self.result = result
        self.counts = counts
        self.absent = absent
        self.responded = responded


Source = Callable[[Need], Fact]
"""Answers a need, and may block. Raises SourceError."""

FactOutcome = Callable[[], Fact]
"""Returns the fact, or raises SourceError."""

FactCallback = Callable[[FactOutcome | None], None]
"""Receives the outcome of a question; None if the question must be asked again, by a thread that may block."""


class NonBlockingSource(Protocol):
    """A source that can often be asked by a thread that must not block."""

    def __call__(self, need: Need, /) -> Fact:
        """Ask, and block until the answer. Raises SourceError."""

    def start(self, need: Need, loop: Loop, callback: FactCallback, /) -> bool:
        """Ask without blocking; *callback* is called once, later. Never raises.

        The calling thread is that of *loop*, which calls *callback*. Return False if that is not possible now.
        """


def is_nonblocking(source: Source) -> TypeGuard[NonBlockingSource]:
    """Return whether *source* can be asked without blocking."""
    return hasattr(type(source), "start")
