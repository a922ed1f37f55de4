"""Answers needs for keys: keys that are missing in the last good key set, and keys that may have changed.

Rules of this file:
1. `find` is called on the deciding thread: it takes no lock and does not block.
2. `ask` joins the refresh in progress, or starts one within the budget of the issuer's schedule. The answer comes when
   the keys are in the snapshot, or when the refresh has failed.
3. A key counts as missing only after a search that began well after its first token. Until then the answer is
   `Unanswered`.
4. No check waits for a key that may have changed. Both kinds of need share one budget: forged signatures cannot cause
   more fetches than unknown key ids can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from authz.core.keys import KeySet
from authz.core.needs import CHANGED_KEY, KEY, KeySearched, Need, Unanswered
from authz.feeds.feed import Feed
from authz.feeds.key_history import KeyHistory
from authz.feeds.refresh import Search
from authz.feeds.unknown_kids import UnknownKids
from authz.telemetry.keys import WhyUnanswered

KEY_SEARCHED: Final = KeySearched()
"""The answer after a search: the current snapshot is up to date."""

NO_REFRESH: Final = "not asked"
"""The answer about a key that may have changed: no refresh may start for it now."""


@dataclass(frozen=True, slots=True)
class KeyFeed:
    """The feed of one issuer's keys, its observer, and the unknown key ids of tokens."""

    feed: Feed[KeySet]
    history: KeyHistory
    unknown_kids: UnknownKids = field(default_factory=UnknownKids)

    def search(self, kid: str | None, *, just_ended: bool = False) -> KeySearched | Unanswered | None:
        """Return whether *kid* is missing (KeySearched) or cannot be searched for now; None if a refresh may find it.

        *just_ended* means that a refresh has just ended.
        """
        first_asked = self.unknown_kids.first_seen(kid, self.feed.monotonic())
        # A key that was published before was removed: there is no reason to expect it again.
        grace = 0.0 if self.history.was_published(kid) else self.feed.schedule.cooldown
        result = self.feed.search(first_asked=first_asked, grace=grace, just_ended=just_ended)
        if result is Search.NOW:
            return None
        failure = self._describe_failure()
        if result is Search.NOT_THERE:
            return KeySearched(failure) if failure else KEY_SEARCHED
        counted, why = _UNANSWERED[result]
        self.history.count_unanswered(counted)
        return Unanswered("; ".join(text for text in (why, failure) if text))

    def _describe_failure(self) -> str:
        view = self.feed.view
        failure = view.last_failure if view.state.failures else None
        return "" if failure is None else f"the last refresh failed: {failure.result.value}: {failure.text}"


_TOO_NEW: Final = "its key id is new, and is searched for again soon, because an issuer may publish late"
_NO_BUDGET: Final = "it is searched for as soon as a refresh may start again (fetch.cooldown)"
_UNANSWERED: Final = {
    Search.TOO_NEW: (WhyUnanswered.TOO_NEW, _TOO_NEW),
    Search.NO_BUDGET: (WhyUnanswered.NO_BUDGET, _NO_BUDGET),
    Search.REFRESH_FAILED: (WhyUnanswered.REFRESH_FAILED, ""),
}


class KeyLane:
    """Searches for missing keys. *feeds* returns the current feeds by the configured names of their issuers.

    *max_waiting* limits the checks that wait for keys of any issuer at one time.
    """

    def __init__(self, feeds: Callable[[], Mapping[str, KeyFeed]], *, max_waiting: int) -> None:
        self._feeds: Final = feeds
        self.max_waiting: Final = max_waiting

    def find(self, need: Need) -> object | None:
        """Return KeySearched if the key is missing, Unanswered if it cannot be searched for now; None: call `ask`.

        A refresh may have ended since the caller took its snapshot: the caller must decide by the current one.
        """
        feed = self._feeds().get(need.source)
        if feed is None:
            return KEY_SEARCHED
        feed.history.count_unknown_kid()
        return feed.search(need.identifier)

    def ask(self, need: Need, done: Callable[[object], None]) -> None:
        """Start or join a refresh; call *done* with the result, once, on any thread. Never raises, never blocks.

        *done* is called when the refresh has ended, or at once if none may start.
        """
        feed = self._feeds().get(need.source)
        if feed is None:
            done(KEY_SEARCHED)
        else:
            feed.feed.ask(partial(_answer, feed, need, done))

    def max_wait(self, need: Need) -> float:
        """Return how long a check may wait for the answer, in seconds."""
        feed = self._feeds().get(need.source)
        return feed.feed.schedule.max_wait if feed is not None else 0.0


def _answer(feed: KeyFeed, need: Need, done: Callable[[object], None]) -> None:
    answer = feed.search(need.identifier, just_ended=True)
    done(Unanswered("no refresh has searched for it yet") if answer is None else answer)


class ChangedKeyLane:
    """Refreshes the keys of an issuer if one of them may have been replaced under its key id. No check waits."""

    def __init__(self, feeds: Callable[[], Mapping[str, KeyFeed]], *, max_waiting: int) -> None:
        self._feeds: Final = feeds
        self.max_waiting: Final = max_waiting

    def find(self, need: Need) -> object | None:
        """Return NO_REFRESH if the keys are fresh or no refresh may start; else None. Takes no lock."""
        feed = self._feeds().get(need.source)
        return None if feed is not None and feed.feed.may_recheck() else NO_REFRESH

    def ask(self, need: Need, done: Callable[[object], None]) -> None:
        """Start a refresh if allowed; call *done* when it has ended, or at once."""
        feed = self._feeds().get(need.source)
        if feed is None or not feed.feed.may_recheck():
            done(NO_REFRESH)
        else:
            feed.feed.ask(partial(done, KEY_SEARCHED))

    def max_wait(self, _need: Need) -> float:
        """Return 0: no check waits."""
        return 0.0


def make_key_lanes(
    feeds: Callable[[], Mapping[str, KeyFeed]], *, max_waiting: int
) -> dict[str, KeyLane | ChangedKeyLane]:
    """Return the lanes for keys by the kinds of need that they answer."""
    return {
        KEY: KeyLane(feeds, max_waiting=max_waiting),
        CHANGED_KEY: ChangedKeyLane(feeds, max_waiting=max_waiting),
    }
