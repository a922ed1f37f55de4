"""Ask the server that replicas share once, by the code that serves, and say what that proves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from authz.config.shared_state import SharedState as SharedStateSection
from authz.feeds.shared.connect import open_shared_state
from authz.feeds.shared.state import Part, SharedState, SharedStateError
from authz.telemetry.redaction import printable

_KEPT_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class ProbedState:
    """The result of asking the server: *ok* if it does what is needed; *findings* are sentences."""

    ok: bool
    findings: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"shared state: {'answers' if self.ok else 'fails'}"
        yield from (f"  {'proved' if self.ok else 'failed'}        {printable(finding)}" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"ok": self.ok, "findings": list(self.findings)}


def probe_shared_state(section: SharedStateSection) -> ProbedState:
    """Create a key that ends by itself, try to create it again, use a stream, and ask about the memory."""
    try:
        with closing(open_shared_state(section)) as state:
            state.execute("PING")
            key = state.key("probe", secrets.token_hex(8))
            if not state.create(key, milliseconds=_KEPT_MS) or state.create(key, milliseconds=_KEPT_MS):
                return ProbedState(
                    ok=False, findings=("a new key is not created once: a replica, or another software",)
                )
            _use_stream(state)
            proved = f"answers, and keys below {section.prefix} can be created once, and streams read"
            return ProbedState(ok=True, findings=(proved, *_find_eviction(state)))
    except SharedStateError as error:
        return ProbedState(ok=False, findings=(f"{error.result}: {error}",))


def _use_stream(state: SharedState) -> None:
    """Use a new stream as that of revocations is used. Raises SharedStateError."""
    key = state.key("probe", secrets.token_hex(8))
    commands: list[tuple[Part, ...]] = [
        ("XADD", key, "*", "e", "probe"),
        ("PEXPIRE", key, _KEPT_MS),
        ("XREVRANGE", key, "+", "-", "COUNT", 1),
        ("XLEN", key),
        ("XREAD", "COUNT", 1, "STREAMS", key, "0-0"),
        ("XTRIM", key, "MINID", "~", 1),
        ("TIME",),
    ]
    state.execute_all(commands)


def _find_eviction(state: SharedState) -> Iterator[str]:
    """Report a server that forgets keys before they end."""
    try:
        memory = state.execute("INFO", "memory")
    except SharedStateError:
        return  # our user may not ask
    text = memory.decode("utf-8", "replace") if isinstance(memory, bytes) else ""
    settings = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    policy = settings.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and settings.get("maxmemory", "0") != "0":
        yield f"maxmemory-policy is {policy}: the server forgets keys when it is full; noeviction refuses new ones"
