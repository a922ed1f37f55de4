"""Answers needs of kind "key": a key that a token names, or could mean, and that the last good set does not have.

Rules of this file:
1. `find` may be called on the thread that evaluates requests: it takes no lock and waits for nothing.
2. Who asks shares the refresh under way, or begins one within the budget of the issuer's schedule. The answer comes
   when the keys are in the snapshot, or when the refresh has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from authz.core.keys import KeySet
from authz.core.needs import Need
from authz.feeds.feed import Feed
from authz.feeds.history import History

KEY_SEARCHED: Final = "key searched"
"""The answer: what can be learnt now is in the current snapshot."""


@dataclass(frozen=True, slots=True)
class KeyFeed:
    """What keeps one issuer's keys fresh, and what observes it."""

    feed: Feed[KeySet]
    history: History


class KeyLane:
    """Asks the feeds of issuers, which are *feeds()* at each moment, by their configured names.

    *max_waiting* checks may wait for keys at one time, of all issuers.
    """

    def __init__(self, feeds: Callable[[], Mapping[str, KeyFeed]], *, max_waiting: int) -> None:
        self._feeds: Final = feeds
        self.max_waiting: Final = max_waiting

    def find(self, need: Need) -> object | None:
        """Return KEY_SEARCHED if asking would bring nothing: looked for already, no budget, no such feed; else None.

        A refresh may have ended since the caller took its snapshot: who gets KEY_SEARCHED decides by the current one.
        """
        known = self._feeds().get(need.of)
        if known is None:
            return KEY_SEARCHED
        known.history.count_unknown_kid()
        return None if known.feed.can_ask() else KEY_SEARCHED

    def ask(self, need: Need, done: Callable[[object], None]) -> None:
        """Begin or join a refresh; call *done* with KEY_SEARCHED once, on any thread, when it has ended or none may be.

        Never raises, never waits.
        """
        known = self._feeds().get(need.of)
        if known is None:
            done(KEY_SEARCHED)
        else:
            known.feed.ask(partial(done, KEY_SEARCHED))

    def max_wait(self, need: Need) -> float:
        """Return the seconds that a request may wait for the answer."""
        known = self._feeds().get(need.of)
        return known.feed.schedule.max_wait if known is not None else 0.0
