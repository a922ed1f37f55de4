"""The lanes of one kind of need, one for each source: a failing or slow source does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from authz.core.needs import Need, Unanswered
from authz.facts.lane import DoneCallback, SourceLane

_NOT_CONFIGURED: Final = Unanswered("it is not configured any more")


class LanesBySource:
    """Passes each need to the lane of its source. *lanes* returns the current lanes by source.

    At most *max_waiting* checks may wait at one time, for all lanes together.
    """

    def __init__(self, lanes: Callable[[], Mapping[str, SourceLane]], *, max_waiting: int) -> None:
        self._lanes: Final = lanes
        self.max_waiting: Final = max_waiting

    def recall(self, need: Need) -> object | None:
        """Return the fact if it is cached. Takes no lock."""
        lane = self._lanes().get(need.source)
        return None if lane is None else lane.recall(need)

    def find(self, need: Need) -> object | None:
        """Return the fact if it is cached, or Unanswered. Takes no lock."""
        lane = self._lanes().get(need.source)
        return _NOT_CONFIGURED if lane is None else lane.find(need)

    def may_renew(self, need: Need) -> bool:
        """Return whether to ask for a known fact again. Takes no lock."""
        lane = self._lanes().get(need.source)
        return lane is not None and lane.may_renew(need)

    def ask(self, need: Need, done: DoneCallback) -> bool:
        """Ask the source; *done* is called with the fact, or with Unanswered. Return whether the question is queued."""
        lane = self._lanes().get(need.source)
        if lane is None:
            done(_NOT_CONFIGURED)
            return False
        return lane.ask(need, done)

    def max_wait(self, need: Need) -> float:
        """Return how long a check may wait for the fact, in seconds."""
        lane = self._lanes().get(need.source)
        return 0.0 if lane is None else lane.max_wait(need)
