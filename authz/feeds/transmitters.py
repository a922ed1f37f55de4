"""Receive security events of transmitters (Shared Signals): pushed (RFC 8935), or fetched by a feed (RFC 8936).

Rules of this file:
1. Each transmitter has its own keys, kept fresh as an issuer's are; they verify no access token.
2. An event is acknowledged when its entries are in effect and saved. One for which there is no room, or whose keys are
   unavailable now, is not: its transmitter sends it again.
3. An event that can never be accepted is reported to its transmitter, by a code of RFC 8935 section 2.4, and logged.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from authz.config.issuer import Fetch, InsecureIssuer
from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.config.revocation import Transmitter as Section
from authz.core.algorithms import DEFAULT_ALGORITHMS
from authz.core.claims import ClaimRules
from authz.core.decision import AuditTrail
from authz.core.issuer import Issuer
from authz.core.reasons import Reason, Rejected
from authz.core.security_event import Transmitter, read_security_event
from authz.core.snapshot import Snapshot
from authz.core.strictjson import parse_object
from authz.feeds.build_feed import make_dialer, make_feed, make_source
from authz.feeds.discovery import transmitter_url
from authz.feeds.failure import RefreshError
from authz.feeds.feed import Feed
from authz.feeds.http.connect import Resolve, resolve
from authz.feeds.http.credentials import read_token
from authz.feeds.http.post import Post, Poster
from authz.feeds.key_lane import KeyFeed, KeyLane
from authz.feeds.logouts import read_with_new_keys
from authz.feeds.ports import FeedEnv, Loaded
from authz.feeds.refresh import Schedule
from authz.feeds.refresh_counter import RefreshCounter
from authz.feeds.refusals import RefusalLog
from authz.feeds.revocation_events import FullError, RevocationEvents
from authz.feeds.scheduler import Steppable
from authz.feeds.sources import KeySource
from authz.telemetry import revocations as results
from authz.telemetry.keys import KeyMetrics, Refresh
from authz.telemetry.redaction import printable
from authz.telemetry.revocations import RevocationMetrics

log = logging.getLogger(__name__)

SIGNALS: Final = "signals"  # the source of events, of a transmitter or of no known one
MAX_POLLED: Final = 100  # events in one response
_MAX_ROUNDS: Final = 16  # polls of one refresh, while there are more events
_MAX_POLL_BYTES: Final = 4 * 1024 * 1024
_TIMEOUT: Final = 10.0  # seconds, of one exchange
_CODES: Final = {
    Reason.ISSUER_UNKNOWN: "invalid_issuer",
    Reason.AUDIENCE_MISMATCH: "invalid_audience",
    Reason.KEY_NOT_FOUND: "invalid_key",
    Reason.KEY_UNUSABLE: "invalid_key",
    Reason.SIGNATURE_INVALID: "invalid_key",
    Reason.POLICY_DENIED: "access_denied",
}
_RETRYABLE: Final = frozenset({Reason.KEYS_UNAVAILABLE, Reason.KEY_NOT_FOUND})


class RefusedEventError(Exception):
    """Raised for an event that is not accepted, with a *code* for the transmitter; with *retry*, it may come again."""

    def __init__(self, code: str, why: str, *, retry: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.retry = retry


@dataclass(frozen=True, slots=True)
class _PollFeed:
    """The feed that fetches the events of one transmitter, and its connections."""

    feed: Feed[int]
    source: PollSource

    def close(self) -> None:
        self.feed.close()
        self.source.close()


class Transmitters:
    """The transmitters of one process."""

    def __init__(
        self,
        events: RevocationEvents,
        *,
        snapshot: Callable[[], Snapshot],
        env: FeedEnv,
        metrics: RevocationMetrics,
        key_metrics: KeyMetrics,
        resolve: Resolve = resolve,
    ) -> None:
        self._events: Final = events
        self._snapshot: Final = snapshot
        self._env: Final = env
        self._metrics: Final = metrics
        self._key_metrics: Final = key_metrics
        self._resolve: Final = resolve
        self._refusals: Final = RefusalLog(log, monotonic=env.monotonic)
        self._sections: Mapping[str, tuple[Section, tuple[str, ...]]] = {}
        self._feeds: Mapping[str, KeyFeed] = {}
        self._polls: Mapping[str, _PollFeed] = {}
        self._lane: Final = KeyLane(lambda: self._feeds, max_waiting=0)

    def reconfigure(self, config: Config) -> None:
        """Use the transmitters of *config*; one whose section has not changed keeps its keys."""
        wanted = {
            name: (section, tuple(iss for each in section.revokes_for for iss in config.issuers[each].accepted_issuers))
            for name, section in config.revocation.transmitters.items()
        }
        unchanged = {name for name, section in wanted.items() if self._sections.get(name) == section}
        feeds = {
            name: self._feeds[name] if name in unchanged else self._make_keys(name, wanted[name][0]) for name in wanted
        }
        polls = {
            name: self._polls[name] if name in unchanged else self._make_poll(name, section)
            for name, (section, _) in wanted.items()
            if section.poll_url is not None
        }
        for name in self._feeds.keys() - unchanged:
            self._feeds[name].feed.close()
        for name in self._polls.keys() - unchanged:
            self._polls[name].close()
        self._sections, self._feeds, self._polls = wanted, feeds, polls
        for name in wanted:
            self._metrics.expect_events(f"{SIGNALS} of {name}")
        self._env.wake()

    def feeds_to_step(self) -> list[Steppable]:
        """Return the feeds that the scheduler must step."""
        return [*(keys.feed for keys in self._feeds.values()), *(poll.feed for poll in self._polls.values())]

    def close(self) -> None:
        """Close the connections; no event is fetched any more."""
        for poll in self._polls.values():
            poll.close()

    def receive(self, body: bytes, authorization: str | None) -> None:
        """Accept a pushed event. Raises RefusedEventError."""
        self._accept(body, pushed=True, authorization=authorization)

    def _accept(self, body: bytes, *, pushed: bool, authorization: str | None = None) -> None:
        trail = AuditTrail()
        try:
            event = read_with_new_keys(
                lambda facts: read_security_event(
                    body.decode("ascii", "replace").strip(),
                    self._transmitters(),
                    self._snapshot(),
                    trail,
                    self._env.now(),
                    facts,
                ),
                trail,
                self._lane,
            )
        except Rejected as rejected:
            retry = rejected.reason in _RETRYABLE
            code = _CODES.get(rejected.reason, "invalid_request")
            raise self._refuse(trail, code, f"{rejected.reason.value}: {rejected.detail}", retry=retry) from None
        name = trail.issuer or ""
        if pushed and not self._is_authorized(self._sections[name][0], authorization):
            raise self._refuse(trail, "authentication_failed", "its bearer token is not the one in push_token_file")
        if not event.entries:
            log.info("an event of %s ends no session", name)
            return
        try:
            self._events.revoke(event.entries, f"{SIGNALS} of {name}")
        except (FullError, OSError) as error:
            raise RefusedEventError("invalid_request", str(error), retry=True) from error

    def _refuse(self, trail: AuditTrail, code: str, why: str, *, retry: bool = False) -> RefusedEventError:
        source = SIGNALS if trail.issuer is None else f"{SIGNALS} of {trail.issuer}"
        self._metrics.count_event(source, results.INVALID)
        self._refusals.write("an event", source, printable(why) or "")
        return RefusedEventError(code, why, retry=retry)

    def _is_authorized(self, section: Section, authorization: str | None) -> bool:
        if section.push_token_file is None:
            return True
        try:
            expected = f"Bearer {read_token(section.push_token_file)}"
        except RefreshError as error:
            log.error("events cannot be accepted: %s", error)  # noqa: TRY400 - no traceback
            return False
        return hmac.compare_digest((authorization or "").encode(), expected.encode())

    def _transmitters(self) -> dict[str, Transmitter]:
        """Return the transmitters by their `iss`, with the keys that they have now."""
        transmitters = {}
        for name, (section, issuers) in self._sections.items():
            view = self._feeds[name].feed.view
            keys = view.last_good.value if view.last_good is not None and view.state.serving else None
            rules = ClaimRules(issuer=section.issuer, audiences=frozenset(section.audiences))
            issuer = Issuer(name, frozenset(DEFAULT_ALGORITHMS), rules, keys, algorithms_configured=False)
            transmitters[section.issuer] = Transmitter(issuer, issuers, section.revokes)
        return transmitters

    def _make_keys(self, name: str, section: Section) -> KeyFeed:
        feed = make_feed(
            name,
            _as_issuer(section),
            publish=_ignore,
            env=self._env,
            metrics=self._key_metrics.for_issuer(name),
            resolve=self._resolve,
            metadata=_metadata(section),
        )
        if feed is None:
            raise ValueError("a transmitter has no keys in the configuration")
        return feed

    def _make_poll(self, name: str, section: Section) -> _PollFeed:
        interval = section.poll_interval.total_seconds()
        source = make_poll_source(section, partial(self._accept, pushed=False), resolve=self._resolve)
        schedule = Schedule(interval=interval, min_interval=interval, max_interval=interval * 2, max_backoff=60.0)
        observer = _PollObserver(name, self._metrics)
        feed = Feed(name, source, schedule=schedule, publish=_ignore, env=self._env, observer=observer)
        return _PollFeed(feed, source)


class PollSource:
    """Polls *url* for events (RFC 8936), passes each to *accept*, and acknowledges it; its value is their number."""

    def __init__(
        self, url: str, poster: Poster, accept: Callable[[bytes], None], *, token_file: str | None = None
    ) -> None:
        self._url: Final = url
        self._poster: Final = poster
        self._accept: Final = accept
        self._token_file: Final = token_file
        self._accepted = 0

    @property
    def location(self) -> str:
        """The URL."""
        return self._url

    def close(self) -> None:
        """Close the connections."""
        self._poster.close()

    def probe(self) -> None:
        """Poll for no event, and acknowledge none (RFC 8936 section 2.2), to test the endpoint. Raises RefreshError."""
        self._poll([], {}, max_events=0)

    def read(self, document: bytes) -> int:  # noqa: ARG002 - nothing is stored
        """Return the number of events so far."""
        return self._accepted

    def load(self, *, on_demand: bool = False) -> Loaded[int]:  # noqa: ARG002 - as any time
        """Fetch until there are no more. Raises RefreshError."""
        done: list[str] = []
        errors: dict[str, dict[str, str]] = {}
        for _ in range(_MAX_ROUNDS):
            sets = self._poll(done, errors)
            done, errors, waiting = [], {}, 0
            for jti, text in sets.items():
                try:
                    self._accept(text.encode())
                except RefusedEventError as refused:
                    if refused.retry:
                        waiting += 1
                    else:
                        errors[jti] = {"err": refused.code, "description": refused.code}
                else:
                    done.append(jti)
                    self._accepted += 1
            if waiting and not done and not errors:
                raise RefreshError(Refresh.LIST_REJECTED, f"{self._url}: {waiting} events cannot be accepted now")
            if not done and not errors:
                break
        return Loaded(self._accepted)

    def _poll(
        self, done: list[str], errors: Mapping[str, Mapping[str, str]], max_events: int = MAX_POLLED
    ) -> dict[str, str]:
        """Acknowledge events, and return the next ones by their jti. Raises RefreshError."""
        reported = {name: value for name, value in (("ack", done), ("setErrs", errors)) if value}
        body = json.dumps({"maxEvents": max_events, "returnImmediately": True, **reported}).encode()
        response = self._poster.post(self._url, lambda: Post(body, self._headers()))
        if response.status != 200:
            raise RefreshError(Refresh.STATUS, f"{printable(self._url)}: HTTP status {response.status}")
        try:
            sets = parse_object(response.body).get("sets", {})
        except ValueError as error:
            raise RefreshError(Refresh.LIST_REJECTED, f"{printable(self._url)}: {error}") from None
        if not isinstance(sets, dict) or not all(isinstance(text, str) for text in sets.values()):
            raise RefreshError(Refresh.LIST_REJECTED, f"{printable(self._url)}: sets is not an object of strings")
        return sets

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self._token_file is not None:
            headers["authorization"] = f"Bearer {read_token(self._token_file)}"
        return headers


class _PollObserver:
    """Observes the feed that polls for events: logs and metrics."""

    def __init__(self, name: str, metrics: RevocationMetrics) -> None:
        self._name: Final = name
        self._refreshes: Final = RefreshCounter(name, metrics)

    def on_accepted(self, value: int, fetched_at: float) -> None:  # noqa: ARG002 - the number is a metric already
        """Show when events were last fetched."""
        self._refreshes.show_success(fetched_at)

    def on_unreadable(self, which: str, error: RefreshError) -> None:
        """Nothing is stored that could be unreadable."""

    def on_withdrawn(self, max_stale: float) -> None:
        """Log that nothing was fetched for a day; what was fetched stays."""
        log.error("events of %s: no fetch succeeded for %g s", self._name, max_stale)

    def on_failed(self, error: RefreshError, *, pause: float, serving: bool) -> None:  # noqa: ARG002 - none serves
        """Count a failure, and log the first of several."""
        level = self._refreshes.count_failure(error)
        log.log(level, "events of %s cannot be fetched: %s; next in %.1f s", self._name, error, pause)

    def on_refreshed(self, result: Refresh) -> None:
        """Count a success."""
        self._refreshes.count_success(result)


def _as_issuer(section: Section, url: str | None = None) -> IssuerSection:
    """Return an issuer section by which this transmitter's keys, or its *url*, are fetched."""
    discovered = url is None and section.jwks_uri is None
    fetch = Fetch().model_copy(update={"ca_file": section.ca_file})
    insecure = InsecureIssuer(http=section.insecure.http)
    jwks_uri = None if discovered else url or section.jwks_uri
    return IssuerSection(issuer=section.issuer, jwks_uri=jwks_uri, fetch=fetch, insecure=insecure)


def make_key_source(section: Section) -> KeySource:
    """Return the source of the keys of a transmitter."""
    return make_source(_as_issuer(section), now=time.time, monotonic=time.monotonic, metadata=_metadata(section))


def make_poll_source(section: Section, accept: Callable[[bytes], None], *, resolve: Resolve = resolve) -> PollSource:
    """Return the source that polls a transmitter with a `poll_url`, and passes each event to *accept*."""
    url = section.poll_url or ""
    poster = Poster(make_dialer(_as_issuer(section, url), resolve=resolve), timeout=_TIMEOUT, max_bytes=_MAX_POLL_BYTES)
    return PollSource(url, poster, accept, token_file=section.poll_token_file)


def _metadata(section: Section) -> str | None:
    return transmitter_url(section.issuer) if section.jwks_uri is None else None


def _ignore(_value: object) -> None:
    """Publish nothing: the feed's own view is read."""
