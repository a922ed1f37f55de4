"""Connect to the state that replicas share; the library for it is an optional dependency."""

from __future__ import annotations

from authz.config.shared_state import SharedState as SharedStateSection
from authz.feeds.shared.state import SharedState, SharedStateError


def open_shared_state(section: SharedStateSection, *, blocks_for: float = 0.0) -> SharedState:
    """Return a client for the server of *section*; it connects when it is used, and again after failures.

    *blocks_for*, in seconds, is added to the timeout of replies, for commands that block on purpose (XREAD BLOCK).

    Raises SharedStateError if the library is not installed.
    """
    try:
        from authz.feeds.shared.valkey_client import ValkeyState  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        text = f"shared_state needs the extra [shared]: pip install 'authz-sidecar[shared]' ({error})"
        raise SharedStateError("misconfigured", text) from None
    return ValkeyState(section, blocks_for=blocks_for)
