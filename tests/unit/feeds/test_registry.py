"""Proves authz.feeds.registry: what a new configuration keeps, and what it must not keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.core.authorize import authorize
from authz.core.decision import Decision
from authz.core.keys import Key, KeySet, verify_by_keys
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.core.token import parse_token
from authz.demo.signing import SigningKey
from authz.feeds.key_usage import KeyUsage
from authz.feeds.ports import FeedEnv
from authz.feeds.registry import Registry
from authz.feeds.snapshot_store import SnapshotStore
from authz.telemetry.keys import IssuerKeyMetrics, KeyMetrics
from tests.fakes.clock import FakeClock
from tests.fixtures import A_EC, A_RSA, B_EC, A, B, ask, mint

CONFIG = """
version: 1
issuers:
  a: {{issuer: "{a}", audiences: [api], leeway: 0s, jwks_file: "{folder}/a.json"{more}}}
  {other}
rules: [{{name: items, match: {{paths: ["/**"]}}}}]
"""


class BreakableMetrics(KeyMetrics):
    """Metrics that can be made to fail."""

    broken = False

    def for_issuer(self, issuer: str) -> IssuerKeyMetrics:
        if self.broken:
            raise RuntimeError("no numbers")
        return super().for_issuer(issuer)


class House:
    """All feeds of one sidecar, on key files in *folder*, stepped by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.metrics = BreakableMetrics(CollectorRegistry())
        self.publish("a", A_RSA, A_EC)
        self.publish("b", B_EC)
        config = parse(self.text(), file="authz.yaml")
        self.store = SnapshotStore(build_snapshot(config))
        self.usage = KeyUsage(self.clock.time)
        self.evictions: list[Snapshot] = []
        self.hold = False
        self.under_way: list[Callable[[], None]] = []
        self.registry = Registry(
            store=self.store,
            env=FeedEnv(monotonic=self.clock.monotonic, now=self.clock.time, jitter=lambda: 0.5, spawn=self._spawn),
            usage=self.usage,
            metrics=self.metrics,
            evict=self.evictions.append,
        )
        self.registry.apply(config, self.store.current())
        self.step()

    def _spawn(self, refresh: Callable[[], None]) -> None:
        if self.hold:
            self.under_way.append(refresh)
        else:
            refresh()

    def text(self, more: str = "", other: str = "") -> str:
        return CONFIG.format(a=A, folder=self.folder, more=more, other=other)

    def publish(self, name: str, *keys: SigningKey) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps({"keys": [key.public() for key in keys]}))

    def apply(self, more: str = "", other: str = "") -> None:
        config = parse(self.text(more, other), file="authz.yaml")
        self.registry.apply(config, build_snapshot(config))

    def step(self) -> None:
        for feed in self.registry.feeds_to_step():
            feed.step()

    def keys(self) -> tuple[Key, ...]:
        keys = self.store.current().issuers[A].keys
        assert keys is not None
        return tuple(keys.keys)

    def decide(self, token: str) -> Decision:
        return authorize(ask(token), self.store.current(), self.clock.time())


OTHER = 'b: {{issuer: "{b}", audiences: [api], jwks_file: "{folder}/b.json"}}'


def test_keys_stay_where_only_judgement_changed(tmp_path: Path) -> None:
    """A new leeway needs no new keys: the feed runs on, and no request is refused for want of keys."""
    house = House(tmp_path)
    feed = house.registry.feeds()["a"].feed
    house.apply(more=", max_lifetime: 1h")
    assert house.registry.feeds()["a"].feed is feed
    assert house.decide(mint()).reason is Reason.AUTHENTICATED


@pytest.mark.parametrize("option", ["no_expiry", "any_audience", "x5c_mismatch"])
def test_keys_stay_where_another_option_is_insecure(tmp_path: Path, option: str) -> None:
    """What weakens the verification of tokens, or the reading of a set, says nothing about where the set came from."""
    house = House(tmp_path)
    house.hold = True
    house.apply(more=f", insecure: {{{option}: true}}")
    assert house.decide(mint()).reason is Reason.AUTHENTICATED
    house.apply()
    assert house.decide(mint()).reason is Reason.AUTHENTICATED


def test_blocked_key_is_out_with_the_new_configuration(tmp_path: Path) -> None:
    """From the swap on, before any refresh; the other key of the issuer continues to serve."""
    house = House(tmp_path)
    house.apply(more=f", blocked_keys: [{A_RSA.kid}]")
    assert house.decide(mint()).reason is Reason.KEY_UNUSABLE
    assert house.decide(mint(A_EC)).reason is Reason.AUTHENTICATED


def test_key_that_is_unblocked_serves_again_at_once(tmp_path: Path) -> None:
    """The document is kept as it was published."""
    house = House(tmp_path)
    house.apply(more=f", blocked_keys: [{A_RSA.kid}]")
    house.apply()
    assert house.decide(mint()).reason is Reason.AUTHENTICATED


def test_keys_from_elsewhere_are_not_kept(tmp_path: Path) -> None:
    """Keys that another file vouched for are gone until the new one is read."""
    house = House(tmp_path)
    text = house.text().replace("/a.json", "/b.json")
    config = parse(text, file="authz.yaml")
    house.registry.apply(config, build_snapshot(config))
    assert house.decide(mint()).reason is Reason.KEYS_UNAVAILABLE
    house.step()
    assert house.decide(mint()).reason is Reason.KEY_NOT_FOUND


def test_closed_feed_publishes_nothing(tmp_path: Path) -> None:
    """A refresh that was under way at the reload cannot bring back what the new configuration blocks."""
    house = House(tmp_path)
    old = house.registry.feeds()["a"].feed
    house.apply(more=f", blocked_keys: [{A_RSA.kid}]")
    house.publish("a", A_RSA)
    house.clock.advance(60)
    old.step()
    assert house.decide(mint()).reason is Reason.KEY_UNUSABLE


def test_issuer_that_is_new_or_gone(tmp_path: Path) -> None:
    """A new issuer is fed from its first step on, one that is gone is not trusted, and the other is not touched."""
    house = House(tmp_path)
    house.apply(other=OTHER.format(b=B, folder=tmp_path))
    token = mint(B_EC, iss=B)
    assert house.decide(token).reason is Reason.KEYS_UNAVAILABLE
    house.step()
    assert house.decide(token).reason is Reason.AUTHENTICATED
    assert house.decide(mint()).reason is Reason.AUTHENTICATED
    house.apply()
    assert house.decide(token).reason is Reason.ISSUER_UNKNOWN
    assert house.decide(mint()).reason is Reason.AUTHENTICATED


def test_issuer_under_a_new_name_keeps_its_keys(tmp_path: Path) -> None:
    """The name is a label; the keys belong to the issuer."""
    house = House(tmp_path)
    config = parse(house.text().replace("  a: {", "  renamed: {"), file="authz.yaml")
    house.registry.apply(config, build_snapshot(config))
    assert house.decide(mint()).reason is Reason.AUTHENTICATED


def test_one_feed_serves_all_tenants_of_an_issuer(tmp_path: Path) -> None:
    """What one refresh brings is there for each `iss` of the template, and a tenant that is added needs no new keys."""
    house = House(tmp_path)
    template = house.text().replace(f'issuer: "{A}"', 'issuer: "https://{tenantid}.test", tenants: [%s]')

    def follow(tenants: str) -> None:
        config = parse(template % tenants, file="authz.yaml")
        house.registry.apply(config, build_snapshot(config))

    def reasons() -> list[Reason]:
        return [house.decide(mint(iss=f"https://{tenant}.test")).reason for tenant in ("x", "y", "z")]

    good, late, none = Reason.AUTHENTICATED, Reason.KEYS_UNAVAILABLE, Reason.ISSUER_UNKNOWN
    follow("x, y")
    assert reasons() == [late, late, none]
    house.step()
    assert list(house.registry.feeds()) == ["a"]
    assert reasons() == [good, good, none]
    follow("y, z")
    assert reasons() == [none, good, good]
    house.publish("a", A_EC)
    house.clock.advance(60)
    house.step()
    assert reasons() == [none, Reason.KEY_NOT_FOUND, Reason.KEY_NOT_FOUND]


def test_refresh_of_a_feed_that_is_gone_reaches_no_new_snapshot(tmp_path: Path) -> None:
    """Under a new name, with a key blocked, what the old feed still had under way must not bring the key back."""
    house = House(tmp_path)
    house.hold = True
    house.clock.advance(60)
    house.step()
    (refresh,) = house.under_way
    text = house.text(more=f", blocked_keys: [{A_RSA.kid}]").replace("  a: {", "  renamed: {")
    config = parse(text, file="authz.yaml")
    house.registry.apply(config, build_snapshot(config))
    house.publish("a", A_RSA)
    refresh()
    assert house.decide(mint()).reason is Reason.KEY_UNUSABLE


def test_keys_that_are_kept_are_not_shown_to_the_old_snapshot(tmp_path: Path) -> None:
    """No decision mixes two configurations: the key that the new one unblocks is blocked until the swap."""
    house = House(tmp_path)
    house.apply(more=f", blocked_keys: [{A_RSA.kid}]")
    seen = []
    adopt = house.store.adopt

    def watch(snapshot: Snapshot, *, kept: Collection[str], keys: Mapping[str, KeySet]) -> None:
        seen.append(house.decide(mint()).reason)
        adopt(snapshot, kept=kept, keys=keys)

    house.store.adopt = watch  # type: ignore[method-assign]
    house.apply()
    assert (seen, house.decide(mint()).reason) == ([Reason.KEY_UNUSABLE], Reason.AUTHENTICATED)


def test_change_that_fails_halfway_changes_nothing(tmp_path: Path) -> None:
    """The feeds that run are not closed for others that could not be made: their keys stay fresh."""
    house = House(tmp_path)
    house.metrics.broken = True
    with pytest.raises(RuntimeError):
        house.apply(more=f", blocked_keys: [{A_RSA.kid}]")
    house.publish("a", A_EC)
    house.clock.advance(60)
    house.step()
    assert house.decide(mint()).reason is Reason.KEY_NOT_FOUND
    assert house.decide(mint(A_EC)).reason is Reason.AUTHENTICATED


def test_readiness_names_required_issuers_without_keys(tmp_path: Path) -> None:
    """An issuer that is not required is never waited for."""
    house = House(tmp_path)
    assert house.registry.waiting_for() == []
    house.apply(other=OTHER.format(b=B, folder=tmp_path))
    assert house.registry.waiting_for() == ["b"]
    house.apply(other=OTHER.format(b=B, folder=tmp_path).replace("audiences", "required: false, audiences"))
    assert house.registry.waiting_for() == []


def test_whoever_remembers_by_keys_learns_of_those_that_are_gone(tmp_path: Path) -> None:
    """They get the snapshot in use after a rotation, a withdrawal and a reload; without news they get nothing."""
    house = House(tmp_path)
    house.evictions.clear()
    house.usage.record_use(verify_by_keys)("a", (house.keys()[0],), parse_token(mint()))
    used = house.keys()[0]
    house.clock.advance(60)
    house.step()
    assert (house.evictions, house.usage.last_used("a", used)) == ([], house.clock.time() - 60)
    house.publish("a", A_EC)
    house.clock.advance(60)
    house.step()
    assert house.evictions == [house.store.current()]
    assert house.usage.last_used("a", used) is None
    (tmp_path / "a.json").unlink()
    house.clock.advance(90_000)
    house.step()
    assert house.evictions[1:] == [house.store.current()]
    house.apply()
    assert house.evictions[2:] == [house.store.current()]


def test_age_of_keys(tmp_path: Path) -> None:
    """It is known from the first keys on, for issuers that have a feed."""
    house = House(tmp_path)
    house.apply(other=OTHER.format(b=B, folder=tmp_path))
    house.clock.advance(0.5)
    assert [house.registry.keys_age(name) for name in ("a", "b", "nobody")] == [0.5, None, None]


def test_an_operator_has_keys_fetched_at_once(tmp_path: Path) -> None:
    """One issuer by its configured name, or all, whatever the schedule says; an unknown name is said to be one."""
    house = House(tmp_path)
    house.publish("a", A_EC)
    assert house.decide(mint(A_EC)).reason is Reason.AUTHENTICATED
    before = house.registry.feeds()["a"].feed.view.state.began_at
    house.clock.advance(0.5)
    assert house.registry.refresh("a") == ["a"]
    assert house.registry.feeds()["a"].feed.view.state.began_at > before
    assert house.registry.refresh() == ["a"]
    assert house.registry.refresh("nobody") is None
