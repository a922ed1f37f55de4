"""Proves that an issuer may publish its keys at several URLs, each of which is fresh or stale for itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from authz.core.needs import KeySearched, Unanswered
from authz.demo.signing import SigningKey
from authz.feeds.failure import RefreshError
from authz.feeds.http.fetch import Response
from authz.feeds.refresh import Schedule
from authz.telemetry.keys import Refresh
from tests.unit.feeds.rig import K1, K2, K3, Behaviour, Rig, answer, document, fail, publish

HOUR = 3600.0
EAST, WEST = "https://east.test/keys", "https://west.test/keys"


def make_rig(**schedule: float) -> Rig:
    """Two clusters of one issuer, each with a key of its own, and one that both publish."""
    rig = Rig(uris=(EAST, WEST), schedule=Schedule(**schedule))
    rig.site.at |= {EAST: publish(K1, K3), WEST: publish(K2, K3)}
    return rig


def test_the_keys_are_a_union() -> None:
    """Tokens of either cluster are verified; what both publish counts once."""
    rig = make_rig()
    rig.run()
    assert rig.kids == {"k1", "k2", "k3"}
    assert rig.metric("authz_keys_count") == 3
    assert rig.feed.source.location == f"{EAST}, {WEST}"


@pytest.mark.parametrize("trouble", [fail(Refresh.TIMEOUT), answer(b"<!doctype html>"), answer(b'{"keys": []}')])
def test_a_cluster_that_fails_takes_nobodys_keys_away(trouble: object) -> None:
    """Its last good keys stay in use, a rotation at the other one is followed, and the failure is counted."""
    rig = make_rig(max_stale=3 * HOUR)
    rig.run()
    rig.site.at |= {EAST: trouble, WEST: publish(K3)}  # type: ignore[dict-item]
    rig.run(HOUR)
    assert rig.kids == {"k1", "k3"}
    failure = rig.feed.view.last_failure
    assert failure is not None
    assert (rig.refreshes(failure.result) or 0) > 10
    rig.run(3 * HOUR)
    assert rig.kids == {"k3"}  # the first cluster's are too old by now; the other's are fresh


def test_a_cluster_that_is_down_at_the_start_keeps_no_other_waiting() -> None:
    """Those that can be had serve; the missing ones come with the first fetch that succeeds, within a minute."""
    rig = make_rig(max_stale=3 * HOUR)
    rig.site.at[EAST] = fail(Refresh.UNREACHABLE)
    rig.run(1)
    assert rig.kids == {"k2", "k3"}
    rig.site.at[EAST] = publish(K1)
    rig.run(61)
    assert rig.kids == {"k1", "k2", "k3"}
    rig.site.at |= {EAST: fail(), WEST: fail()}
    rig.run(4 * HOUR)
    assert rig.kids is None


def test_a_key_is_nowhere_only_if_all_were_asked() -> None:
    """While one of them fails, an unknown key may be its: "try again", though the other was asked a moment ago."""
    rig = make_rig()
    rig.run(100)
    rig.ask("never")
    rig.run(16)
    rig.ask("never")
    assert isinstance(rig.said, KeySearched)
    rig.site.at[EAST] = fail(Refresh.TLS)
    rig.run(16)
    rig.ask("never")
    said: object = rig.said
    assert said == Unanswered("the last refresh failed: tls: no")
    assert rig.kids == {"k1", "k2", "k3"}


def test_a_set_that_did_not_change_is_not_sent_again() -> None:
    """Each URL has its own validator, and "not modified" renews its own set, also after that was too old."""
    rig = make_rig(max_stale=900)
    seen: list[object] = []

    def behave(headers: object) -> Response:
        seen.append(headers)
        assert isinstance(headers, dict)
        return Response(304, {}, b"") if headers.get("if-none-match") == '"1"' else good({})

    good = publish(K1, etag='"1"')
    rig.site.at[EAST] = behave
    rig.run(HOUR)
    assert rig.kids == {"k1", "k2", "k3"}
    assert seen[-1] == {"if-none-match": '"1"'}
    rig.site.at[EAST] = fail()
    rig.run(HOUR)
    assert rig.kids == {"k2", "k3"}
    rig.site.at[EAST] = behave
    rig.run(61)
    assert rig.kids == {"k1", "k2", "k3"}


def test_a_leaked_key_is_lost_in_all_of_them() -> None:
    """Where one cluster publishes the private part, anyone can sign by it, even if another publishes it well."""
    rig = make_rig()
    rig.site.at[EAST] = publish(K1, json.loads(K3.jwk.export_private()))
    rig.run()
    assert rig.kids == {"k1", "k2"}
    assert rig.metric("authz_keys_secrets_published") == 2


def test_the_age_of_each_outlives_a_restart() -> None:
    """What was read again serves for the rest of its time: a cluster that is down gets no second one."""
    schedule = Schedule(max_stale=3 * HOUR)
    rig = make_rig(max_stale=3 * HOUR)
    rig.run()
    rig.site.at[EAST] = fail()
    rig.run(2 * HOUR)
    copy = rig.feed.view.last_good
    assert copy is not None
    after = Rig(uris=(EAST, WEST), clock=rig.clock, schedule=schedule)
    assert {key.kid for key in after.feed.source.read(copy.document).keys} == {"k1", "k2", "k3"}
    rig.clock.advance(2 * HOUR)
    assert {key.kid for key in after.feed.source.read(copy.document).keys} == {"k2", "k3"}
    moved = Rig(uris=(EAST, "https://north.test/keys"), clock=rig.clock, schedule=schedule)
    with pytest.raises(RefreshError, match="no usable key"):
        moved.feed.source.read(copy.document)


@pytest.mark.parametrize("junk", [b"", b"[]", b'{"a": 1}', b'{"a": {"document": 1, "fetched": 1}}', document(K1)])
def test_a_kept_document_that_is_none_is_refused(junk: bytes) -> None:
    """As any other that cannot be read."""
    with pytest.raises(RefreshError, match="is not a union"):
        make_rig().feed.source.read(junk)


def test_a_kept_set_that_cannot_be_read_is_refused() -> None:
    """Nothing of a damaged cache serves."""
    rig = make_rig()
    kept = json.dumps({EAST: {"document": "{", "fetched": rig.clock.time(), "authorities": ""}}).encode()
    with pytest.raises(RefreshError, match=r"east\.test"):
        rig.feed.source.read(kept)


def test_one_that_breaks_is_a_failure_of_its_own() -> None:
    """A bug in one fetch does not cost the others."""
    rig = make_rig()

    def broken(_: object) -> Response:
        raise ZeroDivisionError

    rig.site.at[EAST] = broken
    rig.run()
    assert rig.kids == {"k2", "k3"}
    assert rig.refreshes(Refresh.INTERNAL_ERROR) == 1
    assert replace(rig.feed.view.state, failures=0) != rig.feed.view.state


def test_what_other_authorities_vouched_for_is_not_handed_on() -> None:
    """A cluster that is down since `ca_file` changed: its keys continue to serve, and are in no cache file."""
    rig = make_rig()
    rig.site.at |= {EAST: signed_for("old", K1), WEST: signed_for("old", K2)}
    rig.run()
    rig.site.at |= {EAST: fail(), WEST: signed_for("new", K2)}
    rig.run(HOUR)
    assert rig.kids == {"k1", "k2"}
    copy = rig.feed.view.last_good
    assert copy is not None
    assert copy.authorities == "new"
    assert {key.kid for key in Rig(uris=(EAST, WEST), clock=rig.clock).feed.source.read(copy.document).keys} == {"k2"}


def signed_for(authorities: str, key: SigningKey) -> Behaviour:
    """Publish *key* on a server that these authorities vouch for."""
    return lambda headers: replace(publish(key)(headers), authorities=authorities)
