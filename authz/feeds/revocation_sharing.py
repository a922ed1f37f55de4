"""Events that revoke, shared between replicas: sent to the shared state, and read from it as soon as they are there.

Rules of this file:
1. An event is in effect here before it is sent. If it cannot be sent, its sender is informed, and it is sent later: it
   waits in memory, or is found in the file of past events.
2. Until all events were read once, and if none could be read for too long, this replica does not know what is revoked.
3. After a start, and if the store lost its data, what only the file of this replica knows is sent again.
4. A failure of the store is a pause, never the end of reading; its flood is read at a bounded rate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Condition, Event, Thread
from typing import Final

from authz.feeds.ports import FeedEnv
from authz.feeds.revocation_records import digest_line
from authz.feeds.shared.event_log import EventLog
from authz.feeds.shared.state import SharedStateError

log = logging.getLogger(__name__)

NAME: Final = "shared_state"
BLOCK_SECONDS: Final = 1.0  # how long one read waits for events
TRIM_INTERVAL: Final = 300.0  # seconds
MAX_WAIT: Final = 1.0  # seconds that the sender of an event waits for the shared state
MAX_PENDING: Final = 10_000  # events that could not be sent
_MAX_SENT: Final = 500  # lines at a time
_TURN_SECONDS: Final = 10.0  # for which other replicas wait before they send theirs again
_FIRST_PAUSE: Final = 0.1  # seconds, after a failure
_MAX_PAUSE: Final = 2.0
_FULL_PAUSE: Final = 0.05  # seconds after each full reply, so that a flood leaves most of the processor to requests
_STOP_SECONDS: Final = 2.0


class NotSharedError(OSError):
    """Raised for events that are in effect here, and that other replicas do not know yet."""

    def __init__(self, why: str) -> None:
        super().__init__(None, why)


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line of the file of this replica; *source_line* is the digest of the line in the shared state it came from."""

    text: bytes
    source_line: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingCallbacks:
    """The functions that are called while events are read: *apply* gets new lines.

    *stored* returns the lines in the file of this replica, if it has one. *changed* is called when availability
    changes, *lost* when the store lost its data, *succeeded* after each read with the Unix time.
    """

    apply: Callable[[Sequence[bytes]], None]
    stored: Callable[[], Iterable[StoredLine]] | None
    changed: Callable[[], None]
    lost: Callable[[], None]
    succeeded: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class SharingHealth:
    """How old the last read is, in seconds (None before the first), how many events wait, and what is wrong."""

    age: float | None
    pending: int
    failure: str


class SharedRevocations:
    """The events of all replicas, in *events*. A thread calls `step` in a loop: see `start`."""

    def __init__(self, events: EventLog, *, env: FeedEnv) -> None:
        self.events: Final = events
        self.max_stale = float("inf")  # seconds; infinite if old events are no reason to deny
        self.required = False
        self._env: Final = env
        self.incomplete = False  # some events are neither sent nor waiting: repeated ones are sent again
        self._changed: Final = Condition()  # guards the next five
        self._pending: list[str] = []
        self._queued = 0  # lines since the start, and how many of them were sent
        self._sent = 0
        self._sending = False
        self._blocked = ""  # why sending fails at the moment
        self._read_at: float | None = None
        self._failure = ""
        self._pause = 0.0
        self._available = True
        self._trim_at = env.monotonic() + TRIM_INTERVAL
        self._seen: set[int] | None = (
            None  # lines since the start, by `_short_hash`, while the file is compared with them
        )
        self._stopped: Final = Event()
        self._thread: Thread | None = None

    @property
    def available(self) -> bool:
        """Whether the revocations of other replicas are known recently enough."""
        if not self.required:
            return True
        return self._read_at is not None and self._env.monotonic() - self._read_at <= self.max_stale

    @property
    def health(self) -> SharingHealth:
        """The state, for operators."""
        age = None if self._read_at is None else self._env.monotonic() - self._read_at
        return SharingHealth(age, len(self._pending), self._failure or self._blocked)

    def publish(self, lines: Sequence[str]) -> Callable[[], None]:
        """Begin to send *lines* after the pending ones.

        Return a function that waits at most MAX_WAIT until they are sent, and raises NotSharedError if they are not.
        """
        with self._changed:
            room = MAX_PENDING - len(self._pending)
            if len(lines) > room:
                self.incomplete = True
                log.error("%d revocations wait for the shared state, and others have no room", len(self._pending))
            self._pending += lines[:room]
            self._queued += len(lines[:room])
            until = self._queued
            failing = bool(self._blocked)
        if not failing:
            self._begin_sending()

        def wait() -> None:
            with self._changed:
                self._changed.wait_for(lambda: self._sent >= until or self._blocked, timeout=MAX_WAIT)
                if self._sent < until:
                    raise NotSharedError(self._blocked or f"the shared state has not answered for {MAX_WAIT:g} s")
            if len(lines) > room:
                raise NotSharedError("too many events wait for the shared state")

        return wait

    def start(self, callbacks: SharingCallbacks) -> None:
        """Read on a thread of its own until `stop`."""
        self.begin(callbacks)
        self._thread = Thread(target=self._run, args=(callbacks,), name="shared-revocations", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopped.set()
        self.events.close()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def begin(self, callbacks: SharingCallbacks) -> None:
        """Prepare for the first `step`."""
        self._seen = set() if callbacks.stored is not None else None
        self._available = self.available

    def step(self, callbacks: SharingCallbacks) -> float:
        """Read once and send pending lines; return the pause before the next step, in seconds."""
        blocks = self._read_at is not None and not self._failure
        began = self._env.monotonic()
        try:
            batch = self.events.read(seconds=BLOCK_SECONDS if blocks else 0.0)
            if batch.lost:
                self._note_loss(callbacks)
                return _MAX_PAUSE  # bounds the cost if the origin of the stream changes all the time
            if batch.lines:
                if self._seen is not None:
                    self._seen.update(_short_hash(digest_line(line)) for line in batch.lines)
                callbacks.apply(batch.lines)
            if batch.complete:
                self._note_read(callbacks)
                self._send_missing(callbacks)
            if self._env.monotonic() >= self._trim_at:
                self._trim_at = self._env.monotonic() + TRIM_INTERVAL * (0.5 + self._env.jitter())
                self.events.trim()
        except SharedStateError as error:
            return self._note_failure(error, callbacks)
        self._begin_sending()
        if blocks and not batch.lines and self._env.monotonic() - began < BLOCK_SECONDS / 2:
            return _FIRST_PAUSE  # a server that does not wait must not use a whole CPU
        return _FULL_PAUSE if blocks and not batch.complete else 0.0

    def _run(self, callbacks: SharingCallbacks) -> None:
        while not self._stopped.is_set():
            try:
                pause = self.step(callbacks)
            except Exception:  # an internal error must not end reading
                log.exception("reading shared revocations failed")
                pause = _MAX_PAUSE
            if pause:
                self._stopped.wait(pause)

    def _begin_sending(self) -> None:
        """Send pending lines, on another thread."""
        with self._changed:
            if self._sending or not self._pending:
                return
            self._sending = True
        try:
            self._env.spawn(self._send)
        except RuntimeError as error:  # no thread can be started
            self._end_sending(str(error))

    def _send(self) -> None:
        while lines := self._pending[:_MAX_SENT]:
            try:
                self.events.append(lines)
            except SharedStateError as error:
                self._end_sending(str(error))
                return
            except Exception as error:  # an internal error must not end sending
                log.exception("sending shared revocations failed")
                self._end_sending(f"an error of ours: {type(error).__name__}")
                return
            with self._changed:
                del self._pending[: len(lines)]
                self._sent += len(lines)
                self._changed.notify_all()
        self._end_sending("")

    def _end_sending(self, failure: str) -> None:
        with self._changed:
            before, self._blocked, self._sending = self._blocked, failure, False
            waiting = len(self._pending)
            self._changed.notify_all()
        if failure and not before:
            log.error("%d revocations are in effect here, and not shared yet: %s", waiting, failure)
        if before and not failure:
            log.info("all revocations that waited are shared")
        if waiting and not failure:  # they came at the last moment
            self._begin_sending()

    def _send_missing(self, callbacks: SharingCallbacks) -> None:
        """Send the lines of our file that the shared state lacks; one replica at a time. Raises SharedStateError."""
        if self._seen is None or callbacks.stored is None:
            return
        sent, count = self._seen, 0
        missing = (
            line.text.decode()
            for line in callbacks.stored()
            if _short_hash(line.source_line) not in sent and _short_hash(digest_line(line.text)) not in sent
        )
        while lines := list(islice(missing, _MAX_SENT)):
            if not count and not self.events.take_turn(seconds=_TURN_SECONDS):
                return  # until the next read: what the other one sends is not missing then
            self.events.append(lines)
            count += len(lines)
        self._seen = None
        if count:
            log.warning("%d revocations that only this replica had are shared again", count)

    def _note_loss(self, callbacks: SharingCallbacks) -> None:
        log.error(
            "the shared state has lost revocations: those that no replica has in its revocation.file are unknown to "
            "replicas that start from now on"
        )
        self._seen = set() if callbacks.stored is not None else None
        callbacks.lost()

    def _note_read(self, callbacks: SharingCallbacks) -> None:
        if self._failure:
            log.info("shared revocations are read again")
        self._read_at, self._failure, self._pause = self._env.monotonic(), "", 0.0
        callbacks.succeeded(self._env.now())
        self._note_available(callbacks)

    def _note_failure(self, error: SharedStateError, callbacks: SharingCallbacks) -> float:
        if not self._failure and not self._stopped.is_set():
            log.warning("shared revocations cannot be read: %s", error)
        self._failure = str(error)
        self._note_available(callbacks)
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _MAX_PAUSE)
        return self._pause * (0.5 + self._env.jitter() / 2)

    def _note_available(self, callbacks: SharingCallbacks) -> None:
        available = self.available
        if available is not self._available:
            self._available = available
            callbacks.changed()


def _short_hash(digest: str | None) -> int:
    """Return a short hash of a digest; it is seeded, so that writers of lines cannot provoke collisions."""
    return hash(digest)
