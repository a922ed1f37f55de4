"""Receive logout tokens (OpenID Connect Back-Channel Logout 1.0 sections 2.5 to 2.8).

Rules of this file:
1. A message is accepted when its entries are in effect, and in the file of past events.
2. The response to its sender is only that it was refused; the log says why, without any text of the sender.
3. A message whose key may be new waits for the same refresh that a request would wait for, and is read once more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import Final, TypeVar
from urllib.parse import parse_qs

from authz.core.decision import AuditTrail
from authz.core.logout_token import Logout, read_logout_token
from authz.core.needs import KEY, NO_FACTS, Facts, Need
from authz.core.reasons import Reason, Rejected
from authz.core.snapshot import Snapshot
from authz.feeds.key_lane import KeyLane
from authz.feeds.refusals import RefusalLog
from authz.feeds.revocation_events import FullError, RevocationEvents
from authz.feeds.revocations import LOGOUT
from authz.telemetry import revocations as results
from authz.telemetry.redaction import printable
from authz.telemetry.revocations import RevocationMetrics

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIELD: Final = "logout_token"
_MAX_FIELDS: Final = 8


class RefusedError(Exception):
    """Raised for a message that is not accepted; its text is for the operator."""


class LogoutReceiver:
    """Receives logout tokens of the issuers in the current snapshot, whose new keys the *lane* searches for."""

    def __init__(
        self,
        events: RevocationEvents,
        *,
        snapshot: Callable[[], Snapshot],
        lane: KeyLane,
        metrics: RevocationMetrics,
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events: Final = events
        self._snapshot: Final = snapshot
        self._lane: Final = lane
        self._metrics: Final = metrics
        self._now: Final = now
        self._refusals: Final = RefusalLog(log, monotonic=monotonic)

    def receive(self, body: bytes) -> None:
        """Accept the form *body*. Raises RefusedError."""
        trail = AuditTrail()
        try:
            logout = self._read(_find_token(body), trail)
        except Rejected as rejected:
            source = LOGOUT if trail.issuer is None else f"{LOGOUT} of {trail.issuer}"
            self._metrics.count_event(source, results.INVALID)
            why = f"{rejected.reason.value}: {printable(rejected.detail)}"
            self._refusals.write("a logout token", source, why)
            raise RefusedError(why) from None
        try:
            self._events.revoke(logout.entries, f"{LOGOUT} of {logout.issuer}")
        except (FullError, OSError) as error:
            raise RefusedError(str(error)) from error

    def _read(self, text: str, trail: AuditTrail) -> Logout:
        return read_with_new_keys(
            lambda facts: read_logout_token(text, self._snapshot(), trail, self._now(), facts), trail, self._lane
        )


def read_with_new_keys(read: Callable[[Facts], T], trail: AuditTrail, lane: KeyLane) -> T:
    """Call *read*; if it lacks a key that may be new, wait for a refresh and call it once more. Raises Rejected."""
    try:
        return read(NO_FACTS)
    except Rejected:
        needs = [need for need in trail.needs if need.kind == KEY]
        if not needs or not _search(needs[0], lane):
            raise
    trail.needs = ()
    return read(NO_FACTS)


def _search(need: Need, lane: KeyLane) -> bool:
    """Search for a key, and return whether the keys may have changed."""
    if lane.find(need) is not None:
        return False
    ended = Event()
    lane.ask(need, lambda _: ended.set())
    return ended.wait(lane.max_wait(need))


def _find_token(body: bytes) -> str:
    """Return the token in a form (section 2.5). Raises Rejected."""
    try:
        form = parse_qs(body.decode("ascii"), max_num_fields=_MAX_FIELDS, strict_parsing=True)
    except ValueError:
        form = {}
    values = form.get(_FIELD, [])
    if len(values) != 1:
        raise Rejected(Reason.REQUEST_MALFORMED, f"the body is not a form with one {_FIELD}")
    return values[0]
