"""The interface of the state that replicas share, without the client library.

Rule of this file: every failure is a SharedStateError. No exception of the library passes, and no text that contains a
secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

Part = str | bytes | int | float
"""A word of a command."""

Reply = object
"""A reply as the server sent it (RESP 2): bytes, int, None, or a list of replies."""


class SharedStateError(Exception):
    """Raised if the server did not do what was asked: the text is for the operator, *result* a label for metrics.

    *result* is one of `RESULTS`. After `timeout` and `unreachable` the command may have been executed.
    """

    def __init__(self, result: str, why: str) -> None:
        super().__init__(why)
        self.result = result


RESULTS: Final = ("misconfigured", "rejected", "timeout", "tls", "unauthorized", "unreachable", "unreadable")
"""Kinds of failure: a local file, a command, a timeout, TLS, our credentials, the network, or an invalid reply."""


class SharedState(Protocol):
    """A connection pool to the server; its methods may block, within bounds, and may be called on any thread."""

    def key(self, *names: str) -> str:
        """Return the name of a key of ours: the configured prefix, and *names* with a colon between them."""

    def execute(self, *command: Part) -> Reply:
        """Execute one command and return its reply. Raises SharedStateError."""

    def execute_all(self, commands: Iterable[tuple[Part, ...]]) -> list[Reply]:
        """Send all *commands* at once, and return their replies; they are no transaction. Raises SharedStateError."""

    def create(self, key: str, *, milliseconds: int) -> bool:
        """Create *key*, which expires after *milliseconds*; return False if it exists. Raises SharedStateError.

        Exactly one of all callers gets True, also if a connection breaks in between.
        """

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        """Set *key* to *new* if its value is *old*, empty if there is none; return whether. Raises SharedStateError."""

    def close(self) -> None:
        """Close all connections; those in use fail."""
