"""Answers needs for keys: one that a token names and the last good set does not have, and one that may have changed.

Rules of this file:
1. `find` may be called on the thread that evaluates requests: it takes no lock and waits for nothing.
2. Who asks shares the refresh under way, or begins one within the budget of the issuer's schedule. The answer comes
   when the keys are in the snapshot, or when the refresh has failed.
3. A key is not there only if it was looked for, and not moments after its first token. Until then it is `Unanswered`.
4. Nobody waits for a key that may have changed, and such needs have the budget of the others: a forged signature cannot
   have more fetched than an unknown key id can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from authz.core.keys import KeySet
from authz.core.needs import CHANGED_KEY, KEY, KeySearched, Need, Unanswered
from authz.feeds.feed import Feed
from authz.feeds.history import History
from authz.feeds.refresh import Search
from authz.feeds.sightings import Sightings
from authz.telemetry.keys import WhyUnanswered

KEY_SEARCHED: Final = KeySearched()
"""The answer: what can be learnt now is in the current snapshot."""

NOT_ASKED: Final = "not asked"
"""The answer about a key that may have changed: no refresh may begin for it now."""


@dataclass(frozen=True, slots=True)
class KeyFeed:
    """What keeps one issuer's keys fresh, what observes it, and which key ids tokens named in vain."""

    feed: Feed[KeySet]
    history: History
    sightings: Sightings = field(default_factory=Sightings)

    def search(self, kid: str | None, *, just_ended: bool = False) -> KeySearched | Unanswered | None:
        """Say whether the key *kid* is not there, or cannot be looked for now; None: a refresh may bring it.

        *just_ended* says that a refresh has ended a moment ago.
        """
        first_asked = self.sightings.first(kid, self.feed.monotonic())
        # One that was published and is gone was removed: nobody is about to publish it.
        patience = 0.0 if self.history.was_published(kid) else self.feed.schedule.cooldown
        found = self.feed.search(first_asked=first_asked, patience=patience, just_ended=just_ended)
        if found is Search.NOW:
            return None
        failure = self._describe_failure()
        if found is Search.NOT_THERE:
            return KeySearched(failure) if failure else KEY_SEARCHED
        counted, why = _UNANSWERED[found]
        self.history.count_unanswered(counted)
        return Unanswered("; ".join(text for text in (why, failure) if text))

    def _describe_failure(self) -> str:
        view = self.feed.view
        failure = view.last_failure if view.state.failures else None
        return "" if failure is None else f"the last refresh failed: {failure.result.value}: {failure.text}"


_TOO_NEW: Final = "its key id is new, and is looked for again in a moment, for an issuer may publish late"
_NO_BUDGET: Final = "it is looked for as soon as a refresh may begin again (fetch.cooldown)"
_UNANSWERED: Final = {
    Search.TOO_NEW: (WhyUnanswered.TOO_NEW, _TOO_NEW),
    Search.NO_BUDGET: (WhyUnanswered.NO_BUDGET, _NO_BUDGET),
    Search.REFRESH_FAILED: (WhyUnanswered.REFRESH_FAILED, ""),
}


class KeyLane:
    """Asks the feeds of issuers, which are *feeds()* at each moment, by their configured names.

    *max_waiting* checks may wait for keys at one time, of all issuers.
    """

    def __init__(self, feeds: Callable[[], Mapping[str, KeyFeed]], *, max_waiting: int) -> None:
        self._feeds: Final = feeds
        self.max_waiting: Final = max_waiting

    def find(self, need: Need) -> object | None:
        """Return KeySearched if the key is not there, Unanswered if it cannot be looked for now; None: ask for it.

        A refresh may have ended since the caller took its snapshot: who gets an answer decides by the current one.
        """
        known = self._feeds().get(need.of)
        if known is None:
            return KEY_SEARCHED
        known.history.count_unknown_kid()
        return known.search(need.asked)

    def ask(self, need: Need, done: Callable[[object], None]) -> None:
        """Begin or join a refresh; call *done* with what is known then, once, on any thread. Never raises, never waits.

        *done* is called when the refresh has ended, or at once if none may begin.
        """
        known = self._feeds().get(need.of)
        if known is None:
            done(KEY_SEARCHED)
        else:
            known.feed.ask(partial(_answer, known, need, done))

    def max_wait(self, need: Need) -> float:
        """Return the seconds that a request may wait for the answer."""
        known = self._feeds().get(need.of)
        return known.feed.schedule.max_wait if known is not None else 0.0


def _answer(known: KeyFeed, need: Need, done: Callable[[object], None]) -> None:
    answer = known.search(need.asked, just_ended=True)
    done(Unanswered("no refresh has looked for it yet") if answer is None else answer)


class ChangedKeyLane:
    """Has an issuer's keys refreshed where one of them may have changed under its key id. Nobody waits for it."""

    def __init__(self, feeds: Callable[[], Mapping[str, KeyFeed]], *, max_waiting: int) -> None:
        self._feeds: Final = feeds
        self.max_waiting: Final = max_waiting

    def find(self, need: Need) -> object | None:
        """Return NOT_ASKED if the keys are fresh, or no refresh may begin; else None. Takes no lock."""
        known = self._feeds().get(need.of)
        return None if known is not None and known.feed.may_doubt() else NOT_ASKED

    def ask(self, need: Need, done: Callable[[object], None]) -> None:
        """Begin a refresh if one may; call *done* when it has ended, or at once."""
        known = self._feeds().get(need.of)
        if known is None or not known.feed.may_doubt():
            done(NOT_ASKED)
        else:
            known.feed.ask(partial(done, KEY_SEARCHED))

    def max_wait(self, _need: Need) -> float:
        """Return 0: nobody waits."""
        return 0.0


def make_key_lanes(
    feeds: Callable[[], Mapping[str, KeyFeed]], *, max_waiting: int
) -> dict[str, KeyLane | ChangedKeyLane]:
    """Return the lanes for keys, by the kinds of need that they answer."""
    return {
        KEY: KeyLane(feeds, max_waiting=max_waiting),
        CHANGED_KEY: ChangedKeyLane(feeds, max_waiting=max_waiting),
    }
