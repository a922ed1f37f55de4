"""Follow the decisions of a running sidecar: each once, in order, from the recent ones that its console returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

OVERLAP_SECONDS: Final = 2.0  # two threads, or workers, may keep decisions in another order than their times

Document = Mapping[str, Any]
_SHOWN: Final = ("rule", "issuer", "subject", "thumbprint", "client")


def follow(read: Callable[[float], Document], wait: Callable[[], bool]) -> Iterator[Document | str]:
    """Yield each decision that `read(after)` returns, the oldest first, and then new ones.

    *wait* waits before the next read, and returns whether to read again. A string reports that decisions were missed.
    """
    printed: dict[str, float] = {}
    latest = 0.0
    while True:
        document = read(max(latest - OVERLAP_SECONDS, 0.0))
        if latest and document["complete_since"] > latest:
            yield "decisions were missed: more came than are kept"
        for decision in reversed(document["decisions"]):
            if decision["decision_id"] not in printed:
                printed[decision["decision_id"]] = decision["at"]
                latest = max(latest, decision["at"])
                yield decision
        printed = {decision_id: at for decision_id, at in printed.items() if at >= latest - 2 * OVERLAP_SECONDS}
        if not wait():
            return


def describe_decision(decision: Document, when: str) -> str:
    """Return the decision as one line of text."""
    fields = " ".join(f"{name}={decision[name]}" for name in _SHOWN if decision.get(name))
    request = f"{decision.get('method', '')} {decision.get('host', '')}{decision.get('path', '')}".strip()
    detail = f": {decision['detail']}" if decision["detail"] else ""
    parts = (when, decision["decision"], decision["reason"], request, fields, f"id={decision['decision_id']}")
    return " ".join(part for part in parts if part) + detail
