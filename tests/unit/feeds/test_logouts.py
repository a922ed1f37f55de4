"""Proves authz.feeds.logouts: forms as providers post them, what is refused, and keys that are new."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final
from urllib.parse import urlencode

import pytest

from authz.core.issuer import LogoutRules
from authz.core.needs import KeySearched, Need
from authz.core.reasons import Reason
from authz.feeds.logouts import LogoutReceiver, RefusedError
from authz.feeds.refusals import MAX_LINES, SECONDS_PER_LINE
from authz.feeds.snapshot_store import SnapshotStore
from tests.fixtures import A, T, decide, issuer_a, key_set, make_snapshot, mint, signer
from tests.unit.core.test_logout_token import logout_token
from tests.unit.feeds.test_revocations import Pod, settings

TOKEN: Final = mint(sid="s1", exp=T + 10**6)


class Lane:
    """Searches for keys, and finds them if it has any to publish."""

    max_waiting = 0

    def __init__(self, publish: Callable[[], None] | None = None) -> None:
        self.asked: list[Need] = []
        self._publish = publish

    def find(self, need: Need) -> object | None:
        return None if self._publish is not None else KeySearched()

    def ask(self, need: Need, done: Callable[[object], None]) -> None:
        self.asked.append(need)
        if self._publish is not None:
            self._publish()
        done(KeySearched())

    def max_wait(self, _need: Need) -> float:
        return 300.0


class Receiver:
    """A process that accepts logout tokens of issuer A."""

    def __init__(self, *, max_entries: int = 100, new_key: bool = False) -> None:
        self.pod = Pod(settings(max_entries=max_entries))
        self.store: SnapshotStore = self.pod.store
        a = replace(issuer_a(), logout=LogoutRules(frozenset({"web"})))
        self.store.adopt(make_snapshot(a=a), kept=(), keys={})
        self.lane = Lane((lambda: self.store.set_keys((A,), key_set(signer("ES256", "new")))) if new_key else None)
        self.receiver = LogoutReceiver(
            self.pod.revocations.events,
            snapshot=self.store.current,
            lane=self.lane,  # type: ignore[arg-type]  # a fake
            metrics=self.pod.revocations.metrics,
            now=self.pod.clock.time,
            monotonic=self.pod.clock.monotonic,
        )

    def post(self, token: str, **more: str) -> None:
        self.receiver.receive(urlencode({"logout_token": token, **more}).encode())

    def refusal(self, body: bytes) -> str:
        with pytest.raises(RefusedError) as refused:
            self.receiver.receive(body)
        return str(refused.value)

    def events(self, source: str, result: str) -> float | None:
        return self.pod.metric("authz_revocation_events_total", source=source, result=result)

    def reason(self) -> Reason:
        return decide(TOKEN, snapshot=self.store.current()).reason


def test_a_logout_ends_its_session() -> None:
    """From the answer on; the same token again changes nothing, and is not an error: the answer may have been lost."""
    receiver = Receiver()
    receiver.post(logout_token(), state="ignored")
    assert receiver.reason() is Reason.TOKEN_REVOKED
    receiver.post(logout_token())
    assert receiver.events("logout of a", "accepted") == 1
    assert receiver.events("logout of a", "known") == 1


def test_a_replayed_logout_does_not_end_a_later_login() -> None:
    """A logout of a subject is about what was issued until then, however often it is repeated."""
    receiver = Receiver()
    old = logout_token(sid=None, sub="bob")
    for _ in range(2):
        receiver.post(old)
        assert decide(mint(iat=T), snapshot=receiver.store.current()).reason is Reason.TOKEN_REVOKED
        later = mint(iat=T + 1, nbf=T)
        assert decide(later, snapshot=receiver.store.current(), now=T + 1).reason is Reason.AUTHENTICATED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"logout_token",
        b"token=x",
        b"\xff=x",
        b"logout_token=a&logout_token=b",
        b"&".join(b"x%d=1" % number for number in range(20)),
        b'{"logout_token": "x"}',
    ],
)
def test_a_body_that_is_no_such_form(body: bytes) -> None:
    """It is refused, and counted without an issuer."""
    receiver = Receiver()
    assert receiver.refusal(body) == "request_malformed: the body is not a form with one logout_token"
    assert receiver.events("logout", "invalid") == 1


def test_a_forgery_is_counted_and_says_nothing_of_its_author(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the configured issuer and the check that failed."""
    receiver, forged = Receiver(), logout_token(signer("RS256", "f"), header={"typ": "logout+jwt", "kid": "a-rsa"})
    with caplog.at_level(logging.INFO):
        why = receiver.refusal(urlencode({"logout_token": forged}).encode())
    assert why.startswith("signature_invalid")
    assert "a logout token is refused (logout of a): signature_invalid" in caplog.text
    assert receiver.events("logout of a", "invalid") == 1
    assert receiver.reason() is Reason.AUTHENTICATED


def test_a_flood_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Anyone may send: all refusals are counted, few have a line, and the next line says how many had none."""
    receiver = Receiver()
    for _ in range(1000):
        receiver.refusal(b"flood")
    assert len(caplog.records) == MAX_LINES
    assert receiver.events("logout", "invalid") == 1000
    receiver.pod.clock.advance(SECONDS_PER_LINE)
    receiver.refusal(b"flood")
    assert caplog.messages[-1].endswith("; 990 more were refused before it")


def test_no_room_is_not_success() -> None:
    """The provider is told that the logout failed, and what was accepted before still counts."""
    receiver = Receiver(max_entries=1)
    receiver.post(logout_token())
    assert "no room" in receiver.refusal(urlencode({"logout_token": logout_token(sid="s2")}).encode())
    assert receiver.reason() is Reason.TOKEN_REVOKED


def test_a_key_that_is_new_is_searched_for() -> None:
    """The issuer rotated, and logs out before anyone has come with a token of the new key."""
    fresh = logout_token(signer("ES256", "new"))
    receiver = Receiver(new_key=True)
    receiver.post(fresh)
    assert [need.identifier for need in receiver.lane.asked] == ["new"]
    assert receiver.events("logout of a", "accepted") == 1
    stale = Receiver()
    assert stale.refusal(urlencode({"logout_token": fresh}).encode()).startswith("key_not_found")
    assert stale.lane.asked == []
