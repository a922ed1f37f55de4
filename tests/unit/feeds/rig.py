"""One feed under a fake clock, with an issuer that answers as configured and counts what it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

from prometheus_client import CollectorRegistry

from authz.core.keys import KeySet
from authz.core.needs import CHANGED_KEY, KEY, Need
from authz.demo.signing import SigningKey
from authz.feeds.failure import RefreshError
from authz.feeds.feed import Feed
from authz.feeds.http.fetch import Response
from authz.feeds.key_history import KeyHistory
from authz.feeds.key_lane import ChangedKeyLane, KeyFeed, KeyLane
from authz.feeds.ports import Cache, FeedEnv, Observer
from authz.feeds.refresh import Schedule
from authz.feeds.sources import DiscoverySource, DiscoveryTimes, KeySetReader, KeySource, UrlSource
from authz.feeds.union import UnionSource
from authz.telemetry.keys import KeyMetrics, Refresh
from tests.fakes.clock import FakeClock

ISSUER = "https://a.test"
DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
JWKS = f"{ISSUER}/keys"

K1, K2, K3 = (SigningKey.create("ES256", kid=f"k{number}") for number in (1, 2, 3))

Behaviour = Callable[[Mapping[str, str]], Response]


def document(*keys: SigningKey | object) -> bytes:
    """Write a JWK Set; whatever is no SigningKey stands there as it is."""
    return json.dumps({"keys": [key.public() if isinstance(key, SigningKey) else key for key in keys]}).encode()


def answer(body: bytes, **headers: str) -> Behaviour:
    """Answer 200 with *body*; in names of headers `_` stands for a hyphen."""
    spelled = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Response(200, spelled, body)


def publish(*keys: SigningKey | object, **headers: str) -> Behaviour:
    """Answer with a JWK Set."""
    return answer(document(*keys), **headers)


def discover(uri: str = JWKS, issuer: str = ISSUER) -> Behaviour:
    """Answer with a discovery document."""
    return answer(json.dumps({"issuer": issuer, "jwks_uri": uri}).encode())


def fail(result: Refresh = Refresh.STATUS, *, wait: float | None = None) -> Behaviour:
    """Fail as a fetch does."""

    def behave(_: Mapping[str, str]) -> Response:
        raise RefreshError(result, "no", retry_after=wait)

    return behave


@dataclass
class Site:
    """What stands at which URL; `asked` has every request with its time and headers."""

    clock: FakeClock
    at: dict[str, Behaviour] = field(default_factory=dict)
    asked: list[tuple[float, str, Mapping[str, str]]] = field(default_factory=list)

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        self.asked.append((self.clock.monotonic(), url, dict(headers)))
        return self.at.get(url, fail(Refresh.UNREACHABLE))(headers)

    def times(self, url: str = JWKS) -> list[float]:
        """When *url* was asked for."""
        return [at for at, asked, _ in self.asked if asked == url]


class Rig:
    """A feed, its issuer, and what it publishes.

    `hold` keeps refreshes under way until `finish()`; without `threads` none can start.
    """

    def __init__(  # noqa: PLR0913 - each is a part that a test may replace
        self,
        *,
        schedule: Schedule | None = None,
        discovery: bool = False,
        uris: tuple[str, ...] = (),
        blocked: tuple[str, ...] = (),
        cache: Callable[[FakeClock], Cache] | None = None,
        clock: FakeClock | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
        observer: Callable[[KeyHistory], Observer[KeySet]] | None = None,
        **env: Any,  # noqa: ANN401 - parts of a FeedEnv
    ) -> None:
        self.clock = clock or FakeClock()
        self.site = Site(self.clock, {DISCOVERY: discover(), JWKS: publish(K1)})
        self.published: list[KeySet | None] = []
        self.registry = CollectorRegistry()
        self.told: list[tuple[str, Refresh, float]] = []
        self.hold = False
        self.threads = True
        self._under_way: list[Callable[[], None]] = []
        schedule = schedule or Schedule()
        reader = KeySetReader(blocked=blocked)
        times = DiscoveryTimes(
            interval=schedule.max_interval, on_demand_interval=schedule.min_interval, max_stale=schedule.max_stale
        )
        source: KeySource = (
            DiscoverySource(
                self.site.get, DISCOVERY, reader, issuer=ISSUER, times=times, monotonic=self.clock.monotonic
            )
            if discovery
            else UrlSource(self.site.get, JWKS, reader)
        )
        if uris:
            source = UnionSource(
                [UrlSource(self.site.get, uri, reader) for uri in uris],
                reader,
                max_stale=schedule.max_stale,
                monotonic=self.clock.monotonic,
                now=self.clock.time,
            )
        metrics = KeyMetrics(self.registry).for_issuer("a")
        self.history = KeyHistory("a", metrics)
        self.feed = Feed(
            "a",
            source,
            schedule=schedule,
            publish=self.published.append,
            env=replace(
                FeedEnv(
                    monotonic=self.clock.monotonic,
                    now=self.clock.time,
                    jitter=jitter,
                    spawn=self._spawn,
                    on_refresh=lambda *told: self.told.append(told),
                ),
                **env,
            ),
            observer=observer(self.history) if observer is not None else self.history,
            cache=cache(self.clock) if cache is not None else None,
        )
        self.said: object = None
        known = {"a": KeyFeed(self.feed, self.history)}
        self.lane = KeyLane(lambda: known, max_waiting=8)
        self.doubts = ChangedKeyLane(lambda: known, max_waiting=8)

    def _spawn(self, refresh: Callable[[], None]) -> None:
        if not self.threads:
            raise RuntimeError("can't start new thread")
        if self.hold:
            self._under_way.append(refresh)
        else:
            refresh()

    def finish(self) -> None:
        """Let the refreshes end that are under way."""
        under_way, self._under_way = self._under_way, []
        for refresh in under_way:
            refresh()

    def ask(self, kid: str = "unknown") -> Event | None:
        """Ask for an unknown key, as a request does; return what is set when the answer has come, None if none will.

        *said* has what the lane answered last.
        """
        self.clock.advance(1e-6)  # a request comes after what was done before
        need, answered = Need(KEY, "a", kid), Event()

        def done(answer: object) -> None:
            self.said = answer
            answered.set()

        if (found := self.lane.find(need)) is not None:
            done(found)
            return None
        self.lane.ask(need, done)
        return answered

    def doubt(self) -> bool:
        """Ask for a key that may have changed, as a wrong signature does; return whether the issuer was asked."""
        need = Need(CHANGED_KEY, "a", "k1")
        if self.doubts.find(need) is not None:
            return False
        self.doubts.ask(need, lambda _answer: None)
        return True

    def run(self, seconds: float = 0.0) -> None:
        """Let time go by, with every step at the moment it is due."""
        end = self.clock.monotonic() + seconds
        while (due := self.feed.due()) <= end:
            self.clock.advance(max(0.0, due - self.clock.monotonic()))
            self.feed.step()
        self.clock.advance(end - self.clock.monotonic())

    @property
    def kids(self) -> set[str | None] | None:
        """The key ids that are served; None where there are no keys to serve."""
        current = self.published[-1] if self.published else None
        return None if current is None else {key.kid for key in current.keys}

    def metric(self, name: str, **labels: str) -> float | None:
        """One number of the feed's."""
        return self.registry.get_sample_value(name, {"issuer": "a", **labels})

    def refreshes(self, result: Refresh) -> float | None:
        """How many refreshes ended so."""
        return self.metric("authz_keys_refresh_total", result=result.value)
