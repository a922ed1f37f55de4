"""Proves authz.tooling.follow: each decision is shown once, in order, and one that was missed is said to be."""

from __future__ import annotations

from typing import Any

from authz.tooling.follow import OVERLAP_SECONDS, describe_decision, follow


def decision(number: int, at: float) -> dict[str, Any]:
    """A decision."""
    return {"at": at, "decision_id": str(number), "decision": "deny", "reason": "token_expired", "detail": ""}


class Sidecar:
    """A sidecar that keeps more decisions at each look."""

    def __init__(self, *looks: dict[str, Any]) -> None:
        self.looks = list(looks)
        self.asked: list[float] = []

    def read(self, after: float) -> dict[str, Any]:
        self.asked.append(after)
        return self.looks[len(self.asked) - 1]

    def wait(self) -> bool:
        return len(self.asked) < len(self.looks)

    def shown(self) -> list[str]:
        return [each if isinstance(each, str) else each["decision_id"] for each in follow(self.read, self.wait)]


def keeping(*decisions: dict[str, Any], complete_since: float = 0.0) -> dict[str, Any]:
    """What is answered: the newest first."""
    return {"decisions": list(decisions)[::-1], "complete_since": complete_since}


def test_each_decision_is_shown_once_in_order() -> None:
    """Also one that a second thread kept a little late, with an earlier time."""
    one, two, late, three = decision(1, 10.0), decision(2, 12.0), decision(9, 11.0), decision(3, 13.0)
    sidecar = Sidecar(keeping(one, two), keeping(one, late, two, three), keeping(late, two, three))
    assert sidecar.shown() == ["1", "2", "9", "3"]
    assert sidecar.asked == [0.0, 12.0 - OVERLAP_SECONDS, 13.0 - OVERLAP_SECONDS]


def test_what_was_missed_is_said() -> None:
    """More came between two looks than are kept; at the first look nothing was missed."""
    sidecar = Sidecar(keeping(decision(1, 10.0), complete_since=9.0), keeping(decision(2, 20.0), complete_since=15.0))
    assert sidecar.shown() == ["1", "decisions were missed: more came than are kept", "2"]


def test_nothing_is_remembered_for_ever() -> None:
    """Ids that cannot come again are forgotten: a tail may run for days."""
    looks = [keeping(decision(number, number * 10.0)) for number in range(1, 200)]
    sidecar = Sidecar(*looks)
    following = follow(sidecar.read, sidecar.wait)
    assert len(list(following)) == 199


def test_a_decision_is_one_line() -> None:
    """When, what, of which request, by whom, and why; what is unknown is left out."""
    found = {
        **decision(7, 1.0),
        "method": "GET",
        "host": "api.test",
        "path": "/items/1",
        "rule": "items",
        "subject": "bob",
        "thumbprint": "0ZcOCORZ",
        "detail": "expired 5 s ago",
    }
    assert describe_decision(found, "12:00") == (
        "12:00 deny token_expired GET api.test/items/1 rule=items subject=bob thumbprint=0ZcOCORZ id=7: expired 5 s ago"
    )
    assert describe_decision(decision(7, 1.0), "12:00") == "12:00 deny token_expired id=7"
