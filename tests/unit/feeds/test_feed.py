"""Proves a feed of keys under a fake clock: when it refreshes, what it keeps, when it gives up."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from itertools import pairwise

import pytest

from authz.core.needs import CHANGED_KEY, KeySearched, Need, Unanswered
from authz.feeds.http.fetch import Response
from authz.feeds.key_lane import KEY_SEARCHED
from authz.feeds.refresh import Schedule
from authz.telemetry.keys import Refresh
from tests.unit.feeds.rig import JWKS, K1, K2, K3, Rig, answer, document, fail, publish

HOUR = 3600.0
DAY = 24 * HOUR


def test_first_keys_are_fetched_at_once() -> None:
    """A cold feed is due immediately, publishes what it gets, and has had keys from then on."""
    rig = Rig()
    assert rig.feed.view.last_good is None
    rig.run()
    assert rig.kids == {"k1"}
    assert rig.feed.view.last_good is not None
    assert rig.metric("authz_keys_count") == 1
    assert rig.metric("authz_keys_last_success_timestamp_seconds") == rig.clock.time()


def test_cold_start_without_issuer_serves_nothing() -> None:
    """E01: while the issuer is down there are no keys, built-in or other; the first good answer brings them."""
    rig = Rig()
    rig.site.at[JWKS] = fail(Refresh.UNREACHABLE)
    rig.run(HOUR)
    assert rig.published == []
    assert rig.feed.view.last_good is None
    rig.site.at[JWKS] = publish(K1)
    rig.run(60)
    assert rig.kids == {"k1"}


@pytest.mark.parametrize(
    ("cache_control", "earliest", "latest"),
    [
        ("max-age=600", 450, 570),
        ("max-age=1", 60, 75),
        ("no-cache", 450, 570),
        ("no-store, max-age=0, must-revalidate", 450, 570),
        ("max-age=999999999999", 2700, 3420),
        ("", 450, 570),
    ],
)
@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_refresh_comes_before_expiry(cache_control: str, earliest: float, latest: float, jitter: float) -> None:
    """The next fetch lies between 75 and 95 % of the clamped lifetime, and never below the shortest interval."""
    rig = Rig(jitter=lambda: jitter)
    rig.site.at[JWKS] = publish(K1, cache_control=cache_control) if cache_control else publish(K1)
    rig.run(HOUR)
    first, second, *_ = rig.site.times()
    assert second - first == pytest.approx(latest if jitter else earliest)


def test_longest_interval_is_never_exceeded() -> None:
    """Jitter does not reach beyond the longest interval, also where it equals the shortest."""
    schedule = Schedule(interval=60, min_interval=60, max_interval=60)
    assert schedule.pause_after_success(None, 1.0) == 60


def test_not_modified_renews() -> None:
    """A 304 to our ETag counts as a success: keys continue to serve beyond `max_stale` without a new document."""
    rig = Rig()

    def behave(headers: object) -> Response:
        assert isinstance(headers, dict)
        if headers.get("if-none-match") == '"1"':
            return Response(304, {}, b"")
        return Response(200, {"etag": '"1"'}, document(K1))

    rig.site.at[JWKS] = behave
    rig.run(2 * DAY)
    assert [keys and len(keys.keys) for keys in rig.published] == [1]
    assert rig.refreshes(Refresh.UPDATED) == 1
    assert (rig.refreshes(Refresh.NOT_MODIFIED) or 0) > 100


def test_keys_withdrawn_for_age_come_back_with_a_304() -> None:
    """After `max_stale` and an outage, "not modified" is enough to serve the keys again."""
    rig = Rig(schedule=Schedule(max_stale=2 * HOUR))
    rig.site.at[JWKS] = publish(K1, etag='"1"')
    rig.run()
    rig.site.at[JWKS] = fail()
    rig.run(2 * HOUR + 60)
    assert rig.kids is None
    rig.site.at[JWKS] = lambda headers: Response(304, {}, b"")
    rig.run(120)
    assert rig.kids == {"k1"}


def test_outage_keys_serve_until_max_stale_exactly() -> None:
    """E20: last good keys go at the very second of `max_stale`, and come back without a restart."""
    rig = Rig(schedule=Schedule(max_stale=2 * HOUR))
    rig.run()
    rig.site.at[JWKS] = fail(Refresh.UNREACHABLE)
    rig.run(2 * HOUR - 0.001)
    assert rig.kids == {"k1"}
    rig.run(0.001)
    assert rig.kids is None
    assert rig.metric("authz_keys_count") == 0
    rig.site.at[JWKS] = publish(K1)
    rig.run(60)
    assert rig.kids == {"k1"}
    assert rig.metric("authz_keys_count") == 1


def test_storm_of_errors_is_met_with_backoff() -> None:
    """E09: ten minutes of 500 cost at most 1 + 2 + 4 + ... + 60 + 60 seconds apart, halved by jitter at most."""
    rig = Rig(jitter=lambda: 0.0)
    rig.run()
    rig.site.at[JWKS] = fail()
    rig.run(HOUR)
    storm = [at for at in rig.site.times()[1:] if at - rig.site.times()[1] <= 600]
    gaps = [later - earlier for earlier, later in pairwise(storm)]
    assert gaps[:7] == pytest.approx([0.5, 1, 2, 4, 8, 16, 30])
    assert gaps[7:] == pytest.approx([30] * len(gaps[7:]))
    assert rig.kids == {"k1"}


@pytest.mark.parametrize(("asked", "kept"), [(120, 120), (HOUR, HOUR), (7 * DAY, HOUR)])
def test_retry_after_is_honoured(asked: float, kept: float) -> None:
    """E09: the schedule leaves an issuer alone that asks for it, for the longest interval at most."""
    rig = Rig()
    rig.run()
    rig.site.at[JWKS] = fail(wait=asked)
    rig.run(510)
    failed = rig.site.times()[-1]
    rig.run(kept - 1)
    assert rig.site.times()[-1] == failed
    rig.site.at[JWKS] = publish(K1)
    rig.run(2)
    assert rig.site.times()[-1] == pytest.approx(failed + kept)


def test_retry_after_does_not_hide_a_new_key_for_longer_than_a_minute() -> None:
    """One 503 with an hour of Retry-After, then a rotation: the search waits a minute, and says why meanwhile."""
    rig = Rig()
    rig.run()
    rig.site.at[JWKS] = fail(wait=HOUR)
    rig.run(510)
    failed = rig.site.times()[-1]
    rig.site.at[JWKS] = publish(K2)
    for _ in range(58):
        rig.run(1)
        assert rig.ask("k2") is None
        assert rig.said == Unanswered("the last refresh failed: status: no")
    rig.run(2)
    rig.ask("k2")
    assert rig.kids == {"k2"}
    assert rig.site.times()[-1] - failed <= 61
    assert rig.metric("authz_keys_unanswered_total", why="refresh_failed") == 58


def test_retry_after_does_not_stop_a_start_for_longer_than_half_a_minute() -> None:
    """While there are no keys at all, an issuer that answers 429 with an hour of Retry-After is asked again soon."""
    rig = Rig()
    rig.site.at[JWKS] = fail(wait=HOUR)
    rig.run(1)
    rig.site.at[JWKS] = publish(K1)
    rig.run(30)
    assert rig.kids == {"k1"}


def test_retry_after_never_costs_the_keys() -> None:
    """The wish to be left alone ends where the keys would be withdrawn."""
    rig = Rig(schedule=Schedule(max_stale=900))
    rig.run()
    rig.site.at[JWKS] = fail(wait=HOUR)
    rig.run(580)
    rig.site.at[JWKS] = publish(K1)
    rig.run(330)
    assert rig.site.times()[-1] <= rig.site.times()[0] + 900
    assert rig.kids == {"k1"}


BAD_DOCUMENTS = {
    "html": b"<!doctype html>",
    "truncated": document(K2)[:-3],
    "empty object": b"{}",
    "keys is an object": b'{"keys": {}}',
    "keys is null": b'{"keys": null}',
    "no keys": b'{"keys": []}',
    "NaN": b'{"keys": [], "x": NaN}',
    "deep": b'{"keys": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "duplicate keys": b'{"keys": [], ' + document(K2)[1:],
    "empty": b"",
    "not UTF-8": b'{"keys": ["\xff"]}',
    "10,000 keys": json.dumps({"keys": [K2.public()] * 10_000}).encode(),
    "5 MB": document(K2) + b" " * 5_000_000,
    "long kid": document({**K2.public(), "kid": "k" * 65_536}),
    "all rejected": document({**K2.public(), "crv": "P-257"}),
    "all private": document(json.loads(K2.jwk.export_private())),
}


@pytest.mark.parametrize("body", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
def test_bad_document_never_replaces_good_keys(body: bytes) -> None:
    """E10, C15: refused and counted, and the the last good keys stay in use."""
    rig = Rig()
    rig.run()
    rig.site.at[JWKS] = answer(body)
    rig.run(570)
    assert rig.kids == {"k1"}
    assert (rig.refreshes(Refresh.JWKS_REJECTED) or 0) >= 1
    assert len(rig.published) == 1


def test_removed_key_goes_with_the_next_set() -> None:
    """E12: a key that is not in the next accepted set is not served from then on."""
    rig = Rig()
    rig.site.at[JWKS] = publish(K1, K2)
    rig.run()
    rig.site.at[JWKS] = publish(K2)
    rig.run(570)
    assert rig.kids == {"k2"}


def test_same_kid_with_new_material_replaces() -> None:
    """A key id that returns with another key means the other key."""
    rig = Rig()
    rig.run()
    rig.site.at[JWKS] = publish({**K2.public(), "kid": "k1"})
    rig.run(570)
    keys = rig.published[-1]
    assert keys is not None
    assert [(key.kid, key.thumbprint) for key in keys.keys] == [("k1", K2.jwk.thumbprint())]


def test_unknown_key_is_fetched_at_once() -> None:
    """E13: the first unknown key id starts a refresh; those who ask meanwhile share it, and each is answered."""
    rig = Rig()
    rig.run()
    rig.site.at[JWKS] = publish(K1, K2)
    rig.hold = True
    answers = [rig.ask("k2") for _ in range(1000)]
    assert [answer.is_set() for answer in answers if answer is not None] == [False] * 1000
    rig.finish()
    assert [answer.is_set() for answer in answers if answer is not None] == [True] * 1000
    assert rig.kids == {"k1", "k2"}
    assert len(rig.site.times()) == 2


def test_flood_of_unknown_keys_costs_one_fetch_a_cooldown() -> None:
    """E14: an hour of random key ids costs four fetches, one a cool-down, and the scheduled ones; good keys stay."""
    rig = Rig()
    rig.run()
    for number in range(36_000):
        rig.ask(f"random-{number}")
        rig.run(0.1)
    times = rig.site.times()
    assert len(times) <= 1 + 4 + HOUR / 15 + 10
    assert rig.kids == {"k1"}
    assert len(rig.published) == 1
    assert rig.metric("authz_keys_unknown_kid_total") == 36_000


def test_a_stray_client_leaves_the_budget_to_others() -> None:
    """One wrong key id, sent all day long, costs a fetch a cool-down: a rotation is still met at the first token."""
    rig = Rig()
    rig.run()
    for _ in range(7_000):
        rig.ask("stray")
        rig.run(0.1)
    rig.site.at[JWKS] = publish(K1, K2)
    rig.ask("k2")
    assert rig.kids == {"k1", "k2"}


def test_a_new_key_under_a_flood_is_never_said_to_be_missing() -> None:
    """The budget is spent by a stranger while the issuer rotates: 503 until the next fetch, which brings the key."""
    rig = Rig()
    rig.run()
    for number in range(600):
        rig.ask(f"random-{number}")
        rig.run(0.1)
    rig.site.at[JWKS] = publish(K2)
    published = rig.clock.monotonic()
    while rig.kids != {"k2"}:
        rig.ask("k2")
        assert isinstance(rig.said, Unanswered) or rig.kids == {"k2"}
        rig.ask(f"random-{rig.clock.monotonic()}")
        rig.run(0.1)
    assert rig.clock.monotonic() - published <= 15.2
    assert (rig.metric("authz_keys_unanswered_total", why="no_budget") or 0) > 100


def test_a_key_that_signs_before_it_is_published_is_waited_for() -> None:
    """SPIRE's discovery provider polls every 10 s: the first look brings nothing, a second does; never 401."""
    rig = Rig()
    rig.run(100)
    first = rig.clock.monotonic()
    while rig.kids != {"k1", "k2"}:
        if rig.clock.monotonic() - first >= 5.6:
            rig.site.at[JWKS] = publish(K1, K2)
        rig.ask("k2")
        assert isinstance(rig.said, Unanswered) or rig.kids == {"k1", "k2"}
        rig.run(0.5)
    assert rig.clock.monotonic() - first <= 11


def test_a_key_that_is_not_there_is_said_so_once_it_was_looked_for() -> None:
    """First "try again", for an issuer may publish late; after a cool-down "there is no such key", and no fetch."""
    rig = Rig()
    rig.run(100)
    said = []
    for _ in range(29):
        rig.ask("never")
        said.append(type(rig.said))
        rig.run(1)
    assert said == [Unanswered] * 15 + [KeySearched] * 14
    assert len(rig.site.times()) == 1 + 4


def test_a_key_that_was_removed_is_not_waited_for() -> None:
    """No one is about to publish a key that was published before: one look, and its tokens are refused for good."""
    rig = Rig()
    rig.site.at[JWKS] = publish(K1, K2)
    rig.run(100)
    rig.site.at[JWKS] = publish(K2)
    rig.run(600)
    rig.ask("k1")
    assert rig.said == KEY_SEARCHED
    assert rig.metric("authz_keys_unanswered_total", why="too_new") == 0


def test_what_is_not_there_says_that_the_last_refresh_failed() -> None:
    """A denial that rests on an older look says that there was a newer one, and how it ended."""
    rig = Rig(schedule=Schedule(interval=61))
    rig.run()
    rig.run(20)
    rig.ask("stray")
    rig.run(20)
    rig.ask("stray")
    rig.site.at[JWKS] = fail(Refresh.TLS)
    rig.run(1)
    rig.feed.refresh_now()
    rig.ask("stray")
    assert rig.said == KeySearched("the last refresh failed: tls: no")


def test_an_operator_has_keys_refreshed_at_once() -> None:
    """Whatever the budget, the back-off and Retry-After say; not twice at one time, and not after the end."""
    rig = Rig()
    rig.run()
    rig.site.at[JWKS] = fail(wait=HOUR)
    assert rig.feed.refresh_now()
    rig.site.at[JWKS] = publish(K2)
    rig.hold = True
    assert rig.feed.refresh_now()
    assert not rig.feed.refresh_now()
    rig.finish()
    assert rig.kids == {"k2"}
    rig.feed.close()
    assert not rig.feed.refresh_now()


def test_new_material_under_an_old_key_id_is_fetched_after_a_wrong_signature() -> None:
    """In the background, and from the budget of unknown keys: a forger has no more fetched than a cool-down allows."""
    rig = Rig()
    rig.run()
    assert not rig.doubt()  # the set is new
    rig.run(16)
    rig.site.at[JWKS] = publish({**K2.public(), "kid": "k1"})
    assert rig.doubt()
    keys = rig.published[-1]
    assert keys is not None
    assert [key.thumbprint for key in keys.keys] == [K2.jwk.thumbprint()]
    before = len(rig.site.times())
    for _ in range(3_000):
        rig.doubt()
        rig.run(0.1)
    assert len(rig.site.times()) - before <= 300 / 15 + 1
    assert rig.doubts.max_wait(Need(CHANGED_KEY, "a", "k1")) == 0.0


def test_doubts_about_an_unknown_issuer_end_at_once() -> None:
    """A feed may be gone between a decision and the look: anyone who asked is answered."""
    rig = Rig()
    answers: list[object] = []
    nobody = Need(CHANGED_KEY, "nobody", None)
    assert rig.doubts.find(nobody) is not None
    rig.doubts.ask(nobody, answers.append)
    assert len(answers) == 1


def test_unknown_keys_do_not_hasten_a_failing_issuer() -> None:
    """While refreshes fail, no two attempts lie closer than the back-off or the cool-down."""
    rig = Rig(jitter=lambda: 1.0)
    rig.run()
    rig.site.at[JWKS] = fail()
    rig.ask()
    rig.run(600)
    for _ in range(6_000):
        rig.ask()
        rig.run(0.1)
    late = [at for at in rig.site.times() if at > rig.clock.monotonic() - 600]
    assert min(later - earlier for earlier, later in pairwise(late)) >= 15 - 0.2


def test_the_budget_counts_attempts() -> None:
    """A refresh that failed uses the budget up as well."""
    rig = Rig()
    rig.run(1)
    rig.site.at[JWKS] = fail()
    assert rig.ask() is not None
    rig.site.at[JWKS] = publish(K1, K2)
    asked = len(rig.site.times())
    rig.run(0.4)
    rig.ask()
    assert len(rig.site.times()) == asked


def test_flapping_sets_are_followed_and_counted() -> None:
    """E17: decisions follow the latest accepted set, never a union; the return of an old set is counted."""
    rig = Rig()
    for turn in range(6):
        rig.site.at[JWKS] = publish(K1 if turn % 2 == 0 else K2)
        rig.run(600)
        assert rig.kids == {"k1" if turn % 2 == 0 else "k2"}
    assert rig.metric("authz_keys_jwks_flap_total") == 4
    assert rig.history.flaps == 4


def test_honest_rotation_is_no_flap() -> None:
    """Sets that move on are no flap."""
    rig = Rig()
    for keys in ((K1,), (K1, K2), (K2,), (K2, K3), (K3,)):
        rig.site.at[JWKS] = publish(*keys)
        rig.run(600)
    assert rig.metric("authz_keys_jwks_flap_total") == 0


@pytest.mark.parametrize("jump", [HOUR, -2 * HOUR, 25 * HOUR])
def test_wall_clock_jumps_are_not_noticed(jump: float) -> None:
    """E19: a jump causes no refresh, ends no cool-down and withdraws nothing."""
    rig = Rig(schedule=Schedule(max_stale=2 * HOUR))
    rig.run()
    rig.ask()
    fetches = len(rig.site.times())
    rig.clock.jump(jump)
    rig.run(4)
    rig.ask()
    assert len(rig.site.times()) == fetches
    assert rig.kids == {"k1"}
    rig.site.at[JWKS] = fail()
    rig.run(2 * HOUR - 5)
    assert rig.kids == {"k1"}
    rig.run(2)
    assert rig.kids is None


def test_withdrawal_does_not_wait_for_a_hanging_refresh() -> None:
    """Keys go at `max_stale` also while a refresh is in the air; if it succeeds, they are back."""
    rig = Rig(schedule=Schedule(max_stale=520))
    rig.run()
    rig.hold = True
    rig.run(519)
    assert rig.feed.status().refreshing
    assert rig.kids == {"k1"}
    rig.run(1)
    assert rig.kids is None
    rig.finish()
    assert rig.kids == {"k1"}


def test_closed_feed_publishes_nothing() -> None:
    """After a reload a refresh of the old configuration, still in the air, changes nothing."""
    rig = Rig()
    rig.run()
    rig.site.at[JWKS] = publish(K2)
    rig.hold = True
    rig.ask()
    rig.feed.close()
    rig.finish()
    assert rig.kids == {"k1"}
    assert rig.feed.due() == float("inf")
    rig.clock.advance(60)
    assert rig.ask() is None


def test_every_refresh_ends() -> None:
    """Where no thread can be had, anyone who waits is released, and the next attempt comes after a back-off."""
    rig = Rig()
    rig.run(1)
    rig.threads = False
    answer = rig.ask()
    assert answer is not None
    assert answer.is_set()
    assert rig.refreshes(Refresh.INTERNAL_ERROR) == 1
    rig.threads = True
    rig.site.at[JWKS] = publish(K2)
    rig.run(1)
    assert rig.kids == {"k2"}


def test_a_source_that_breaks_does_not_end_the_feed() -> None:
    """A bug in a source is a failed refresh like any other."""
    rig = Rig()

    def broken(_: object) -> Response:
        raise ZeroDivisionError

    rig.site.at[JWKS] = broken
    rig.run()
    assert rig.refreshes(Refresh.INTERNAL_ERROR) == 1
    rig.site.at[JWKS] = publish(K1)
    rig.run(1)
    assert rig.kids == {"k1"}


def test_blocked_keys_are_set_aside() -> None:
    """What the operator blocked is never served, whatever the issuer publishes; the other keys are."""
    rig = Rig(blocked=("k1", K3.jwk.thumbprint()))
    rig.site.at[JWKS] = publish(K1, K2, K3)
    rig.run()
    assert rig.kids == {"k2"}
    assert rig.metric("authz_keys_rejected_count") == 2


def test_blocked_name_without_a_key_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """One may block ahead, or mistype: a line at level info for each change of the set, and the name escaped."""
    rig = Rig(blocked=("k1", "ah\nead"))
    rig.site.at[JWKS] = publish(K1, K2)
    with caplog.at_level(logging.INFO):
        rig.run(3 * HOUR)
        rig.site.at[JWKS] = publish(K1, K2, K3)
        rig.run(3 * HOUR)
        rig.site.at[JWKS] = publish(K1, K2, {**K3.public(), "kid": "ah\nead"})
        rig.run(HOUR)
    told = [record for record in caplog.records if "blocked key" in record.message]
    assert [(record.levelname, record.message) for record in told] == [
        ("INFO", "blocked key ah\\x0aead of a matches no kid or thumbprint in its key set")
    ] * 2


@pytest.mark.parametrize(("result", "level"), [(Refresh.MISCONFIGURED, "ERROR"), (Refresh.TLS, "WARNING")])
def test_what_only_the_operator_can_mend_is_an_error(
    result: Refresh, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of ours that cannot be read is no weather at the issuer's, and is logged as what it is."""
    rig = Rig()
    rig.site.at[JWKS] = fail(result)
    with caplog.at_level(logging.INFO):
        rig.run()
    assert [record.levelname for record in caplog.records] == [level]


def test_a_key_for_encryption_is_no_cause_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Keycloak publishes one by default: it is rejected, at level info, and counts as no mistake."""
    rig = Rig()
    rig.site.at[JWKS] = publish(K1, {**K2.public(), "use": "enc"})
    with caplog.at_level(logging.DEBUG):
        rig.run()
    told = [(record.levelname, record.message) for record in caplog.records if "rejected" in record.message]
    assert told == [("INFO", "key rejected at a: kid k2: use is not sig")]
    assert rig.metric("authz_keys_rejected_count") == 0


def test_notes_are_told_once_for_each_change_of_the_set(caplog: pytest.LogCaptureFixture) -> None:
    """A key that is accepted despite its form is shown in log and metric, so that the issuer can fix it."""
    rig = Rig()
    careless = [{**key.public(), "use": "SIG", "d": None} for key in (K1, K2)]
    rig.site.at[JWKS] = publish(*careless)
    with caplog.at_level(logging.INFO):
        rig.run(3 * HOUR)
        rig.site.at[JWKS] = publish(*careless, K3)
        rig.run(3 * HOUR)
        rig.site.at[JWKS] = publish(careless[0], K2, K3)
        rig.run(HOUR)
    assert rig.metric("authz_keys_noted_count") == 1
    told = [(record.levelname, record.message) for record in caplog.records if "accepted despite" in record.message]
    assert told == [
        ("INFO", "key of a accepted despite its form: kid k1, k2: null or empty, treated as absent: d"),
        ("INFO", "key of a accepted despite its form: kid k1, k2: use SIG read as sig"),
        ("INFO", "key of a accepted despite its form: kid k1: null or empty, treated as absent: d"),
        ("INFO", "key of a accepted despite its form: kid k1: use SIG read as sig"),
    ]


def test_many_keys_make_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """What holds of many keys is reported once, with the first of them."""
    rig = Rig()
    rig.site.at[JWKS] = publish(K1, *({"kid": f"x{number}", "kty": "new"} for number in range(30)))
    with caplog.at_level(logging.INFO):
        rig.run()
    (told,) = (record.message for record in caplog.records if "rejected" in record.message)
    assert told == "key rejected at a: kid x0, x1, x2, x3, x4, x5, x6, x7 and 22 more: kty is unknown"


def test_private_keys_raise_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """C11: a published private key is rejected, counted and shouted about; the others serve."""
    rig = Rig()
    private = {**json.loads(K2.jwk.export_private()), "kid": "leaked"}
    symmetric = {"kty": "oct", "k": "A" * 43, "kid": "shared"}
    rig.site.at[JWKS] = publish(K1, private, symmetric)
    with caplog.at_level(logging.INFO):
        rig.run()
    assert rig.kids == {"k1"}
    assert rig.metric("authz_keys_secrets_published") == 2
    assert any(record.levelno == logging.ERROR and "publishes secrets" in record.message for record in caplog.records)


def test_log_tells_what_happened_and_repeats_nothing_raw(caplog: pytest.LogCaptureFixture) -> None:
    """Appeared, vanished, rejected, failed with cause; key ids of the issuer's making are escaped and cut."""
    rig = Rig()
    evil = "\x1b[2J\nlevel=info msg=forged " + "k" * 900
    rig.site.at[JWKS] = publish({**K1.public(), "kid": evil}, {**K2.public(), "kid": evil, "use": "enc"})
    with caplog.at_level(logging.INFO):
        rig.run()
        rig.site.at[JWKS] = publish(K3)
        rig.run(570)
        rig.site.at[JWKS] = fail(Refresh.TIMEOUT)
        rig.run(600)
    text = [record.getMessage() for record in caplog.records]
    for wanted in ("key added at a: kid", "key rejected at a: kid", "key removed at a: kid", "(timeout)"):
        assert any(wanted in line for line in text)
    assert all(line.isprintable() and len(line) < 400 for line in text)


def test_status_tells_everything() -> None:
    """What `authz keys` shows is what happened."""
    rig = Rig(jitter=lambda: 0.0)
    rig.run()
    wall = rig.clock.time()
    rig.site.at[JWKS] = fail(Refresh.TLS)
    rig.run(450)
    rig.ask()
    status = rig.feed.status()
    assert (status.serving, status.refreshing, rig.history.unknown_kids) == (True, False, 1)
    assert status.last_success == wall
    assert status.age == pytest.approx(450)
    assert status.stale_in == pytest.approx(DAY - 450)
    assert status.last_failure is not None
    assert status.last_failure.result is Refresh.TLS
    assert status.next_refresh_in == pytest.approx(0.5, abs=1e-3)


def test_each_refresh_is_told_once_with_its_result() -> None:
    """Anyone who traces learns the issuer, what came of it and how long it took, good or bad."""
    rig = Rig()

    def be_slow(headers: object) -> Response:
        rig.clock.advance(1.5)
        return Response(200, {}, document(K1))

    rig.site.at[JWKS] = be_slow
    rig.run(10.0)
    rig.site.at[JWKS] = fail(Refresh.TIMEOUT)
    rig.run(HOUR)
    assert rig.told[0] == ("a", Refresh.UPDATED, 1.5)
    assert {told[:2] for told in rig.told[1:]} == {("a", Refresh.TIMEOUT)}
    assert len(rig.told) == 1 + (rig.refreshes(Refresh.TIMEOUT) or 0)


def test_a_fetch_that_takes_longer_than_the_cooldown_was_a_look_all_the_same() -> None:
    """What it did not bring is not there: 401 for an unknown key, and not 503 for ever."""
    rig = Rig(schedule=Schedule(cooldown=0.5))

    def slow(headers: Mapping[str, str]) -> Response:
        rig.clock.advance(0.8)
        return publish(K1)(headers)

    rig.run()
    rig.site.at[JWKS] = slow
    rig.ask("stray")
    first = rig.said  # its issuer could be about to publish it
    rig.clock.advance(1.0)
    rig.ask("stray")
    assert (type(first), rig.said) == (Unanswered, KEY_SEARCHED)


def test_a_failed_fetch_was_no_look() -> None:
    """The key may be there: the refresh that just ended did not see."""
    rig = Rig(schedule=Schedule(cooldown=0.5))
    rig.run()
    rig.ask("stray")
    rig.run(1.0)
    rig.site.at[JWKS] = fail(Refresh.UNREACHABLE)
    rig.ask("stray")
    assert isinstance(rig.said, Unanswered)
