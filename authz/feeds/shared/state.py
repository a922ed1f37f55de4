"""What a caller sees of the state that replicas share, without the client library.

Rules of this file:
1. Every failure is a SharedStateError: no exception of the library passes, and no text that contains a secret.
2. The library is an optional dependency, imported when a configuration names a server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from authz.config.shared_state import SharedState as SharedStateSection

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
"""What can go wrong: a file of ours, a command, time, TLS, our credentials, the network, or a reply that is none."""


class SharedState(Protocol):
    """A connection pool to the server; its methods may block, within bounds, and may be called on any thread."""

    def key(self, *names: str) -> str:
        """Return the name of a key of ours: the configured prefix, and *names* with a colon between them."""

    def execute(self, *command: Part) -> Reply:
        """Execute one command and return its reply. Raises SharedStateError."""

    def execute_all(self, commands: Iterable[tuple[Part, ...]]) -> list[Reply]:
        """Send all *commands* at once, and return their replies; they are no transaction. Raises SharedStateError."""

    def create(self, key: str, *, milliseconds: int) -> bool:
        """Create *key* for so long; return False if it exists. Raises SharedStateError.

        Exactly one of all callers gets True, also if a connection breaks in between.
        """

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        """Set *key* to *new* if its value is *old*, empty if there is none; return whether. Raises SharedStateError."""

    def close(self) -> None:
        """Close all connections; those in use fail."""


def open_shared_state(section: SharedStateSection, *, blocks_for: float = 0.0) -> SharedState:
    """Return a client for the server of *section*; it connects when it is used, and again after failures.

    *blocks_for* is how long commands may block on purpose (XREAD BLOCK), in seconds: so much longer is a reply waited
    for. Raises SharedStateError if the library is not installed.
    """
    try:
        from authz.feeds.shared.valkey_client import ValkeyState  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        text = f"shared_state needs the extra [shared]: pip install 'authz-sidecar[shared]' ({error})"
        raise SharedStateError("misconfigured", text) from None
    return ValkeyState(section, blocks_for=blocks_for)
