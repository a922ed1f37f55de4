"""Proves authz.feeds.transmitters: what is accepted, what comes again, and what a hub that misbehaves can do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from authz.core.reasons import Reason
from authz.demo.loopback import Request, Response, json_response
from authz.feeds.discovery import transmitter_url
from authz.feeds.transmitters import RefusedEventError, Transmitters
from authz.telemetry.keys import KeyMetrics
from tests.fakes.idp import DISCOVERY, JWKS, FakeIdp, fail
from tests.fixtures import A, T, decide, make_snapshot, mint
from tests.integration.test_signals import CAEP, POLL, US, event
from tests.unit.config.sample import configure
from tests.unit.feeds.test_revocations import Pod, settings

EVE = {"format": "opaque", "id": "eve"}


@pytest.fixture
def hub() -> Iterator[FakeIdp]:
    """A transmitter."""
    with FakeIdp() as transmitter:
        yield transmitter


@pytest.fixture
def make(hub: FakeIdp) -> Iterator[Callable[..., Receiver]]:
    """Make receivers, whose connections are closed at the end."""
    with ExitStack() as made:
        yield lambda **settings: made.enter_context(Receiver(hub, **settings))


class Receiver:
    """A process that trusts a hub; its threads run when they are started."""

    def __init__(self, hub: FakeIdp, *, max_entries: int = 10, **more: object) -> None:
        self.hub = hub
        self.pod = Pod(settings(max_entries=max_entries))
        self.pod.clock.jump(time.time() - T)  # the hub's clock is the system's
        revocations = self.pod.revocations
        self.transmitters = Transmitters(
            revocations.events,
            snapshot=self.pod.store.current,
            env=replace(revocations._env),
            metrics=revocations.metrics,
            key_metrics=KeyMetrics(self.pod.registry),
        )
        self.reconfigure(**more)

    def reconfigure(self, **more: object) -> None:
        """Configure the hub, with changes, and fetch what is due."""
        section = {
            "issuer": self.hub.issuer,
            "audiences": [US],
            "revokes_for": ["corporate"],
            "insecure": {"http": True},
            "poll_url": f"{self.hub.url}{POLL}",
            **more,
        }
        text = f"revocation: {json.dumps({'transmitters': {'hub': section}})}\nreceivers: {{listen: 127.0.0.1:0}}\n"
        config = configure(more=text)
        issuer = config.issuers["corporate"].model_copy(update={"issuer": A})
        self.transmitters.reconfigure(config.model_copy(update={"issuers": {"corporate": issuer}}))
        self.step()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.transmitters.close()

    def step(self, seconds: float = 0.0) -> None:
        self.pod.clock.advance(seconds)
        for feed in self.transmitters.feeds_to_step():
            if feed.due() <= self.pod.clock.monotonic():
                feed.step()

    def refusal(self, token: str, authorization: str | None = None) -> RefusedEventError:
        with pytest.raises(RefusedEventError) as refused:
            self.transmitters.receive(token.encode(), authorization)
        return refused.value

    def reason(self) -> Reason:
        """What becomes of a token of eve."""
        snapshot = make_snapshot(revocations=self.pod.store.current().revocations)
        return decide(mint(sub="eve", iat=1), snapshot=snapshot, now=self.pod.clock.time()).reason

    def count(self, result: str) -> float | None:
        labels = {"source": "signals of hub", "result": result}
        return self.pod.metric("authz_revocation_events_total", **labels)


def test_an_event_counts_when_it_is_accepted(hub: FakeIdp, make: Callable[..., Receiver]) -> None:
    """And one that ends no session is accepted and counts nothing."""
    receiver = make()
    receiver.transmitters.receive(event(hub, EVE, name="unheard-of").encode(), None)
    assert receiver.reason() is Reason.AUTHENTICATED
    receiver.transmitters.receive(event(hub, EVE).encode() + b"\n", None)
    assert receiver.reason() is Reason.TOKEN_REVOKED
    assert receiver.count("accepted") == 1


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://tr.test", "https://tr.test/.well-known/ssf-configuration"),
        ("https://tr.test/", "https://tr.test/.well-known/ssf-configuration"),
        ("https://tr.test:8443/issuer1", "https://tr.test:8443/.well-known/ssf-configuration/issuer1"),
    ],
)
def test_where_the_metadata_of_a_transmitter_is(issuer: str, url: str) -> None:
    """The well-known name stands before the path of the issuer (SSF 1.0 section 7.2), not behind it."""
    assert transmitter_url(issuer) == url


def test_a_transmitter_need_not_be_a_provider(hub: FakeIdp, make: Callable[..., Receiver]) -> None:
    """Its own metadata names its keys, if it speaks for that issuer; else discovery of OpenID Connect does."""
    metadata = "/.well-known/ssf-configuration"
    hub.answers[DISCOVERY] = fail(404)
    hub.answers[metadata] = lambda _: json_response({**hub.discovery, "spec_version": "1_0"})
    receiver = make()
    receiver.transmitters.receive(event(hub, EVE).encode(), None)
    assert receiver.reason() is Reason.TOKEN_REVOKED
    hub.answers[metadata] = lambda _: json_response({**hub.discovery, "issuer": "https://evil.test"})
    assert make().refusal(event(hub, EVE)).retry
    hub.answers[metadata] = fail(500)
    del hub.answers[DISCOVERY]
    make().transmitters.receive(event(hub, EVE).encode(), None)


def test_what_cannot_be_accepted_now_comes_again(hub: FakeIdp, make: Callable[..., Receiver]) -> None:
    """No keys yet, a key that is too new, no room: none of these is the transmitter's fault."""
    hub.answers[JWKS] = fail(500)
    receiver = make(max_entries=1)
    refused = receiver.refusal(event(hub, EVE))
    assert (refused.retry, str(refused)) == (
        True,
        "keys_unavailable: no keys of this issuer, or none that are fresh enough",
    )
    del hub.answers[JWKS]
    receiver.step(60)
    receiver.transmitters.receive(event(hub, EVE).encode(), None)
    full = receiver.refusal(event(hub, {"format": "opaque", "id": "mallory"}))
    assert full.retry
    assert "no room" in str(full)
    assert receiver.reason() is Reason.TOKEN_REVOKED


def test_a_rotation_of_the_transmitter(hub: FakeIdp, make: Callable[..., Receiver]) -> None:
    """An event by a new key is verified at once, by the refresh that it starts."""
    receiver = make()
    hub.rotate()
    receiver.pod.clock.advance(60)
    receiver.transmitters.receive(event(hub, EVE).encode(), None)
    assert receiver.reason() is Reason.TOKEN_REVOKED


def test_a_token_that_cannot_be_read_lets_no_event_in(
    hub: FakeIdp, make: Callable[..., Receiver], tmp_path: Path
) -> None:
    """Whatever is sent in its place."""
    receiver = make(push_token_file=str(tmp_path / "none"))
    for sent in (None, "Bearer ", "Bearer None"):
        assert receiver.refusal(event(hub, EVE), sent).code == "authentication_failed"
    assert receiver.reason() is Reason.AUTHENTICATED


def test_a_reload_keeps_keys(hub: FakeIdp, make: Callable[..., Receiver]) -> None:
    """Of a transmitter that is configured as before; a removed one is a stranger."""
    receiver = make()
    asked = hub.count(JWKS)
    receiver.reconfigure()
    assert hub.count(JWKS) == asked
    receiver.reconfigure(revokes="subject")
    assert hub.count(JWKS) == asked + 1
    receiver.transmitters.reconfigure(configure())
    assert receiver.refusal(event(hub, EVE)).code == "invalid_issuer"
    assert receiver.transmitters.feeds_to_step() == []


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Response(401), "status"),
        (Response(200, body=b"<html>"), "list_rejected"),
        (json_response({"sets": ["x"]}), "list_rejected"),
        (json_response({"sets": {"1": 7}}), "list_rejected"),
    ],
    ids=["401", "HTML", "a list", "a number"],
)
def test_a_hub_that_answers_something_else(
    hub: FakeIdp, make: Callable[..., Receiver], answer: Response, result: str
) -> None:
    """It is asked again, and the failure is counted by its kind."""
    hub.answers[POLL] = lambda _: answer
    receiver = make()
    assert receiver.pod.metric("authz_revocation_refresh_total", source="hub", result=result) == 1
    hub.answers[POLL] = lambda _: json_response({})
    receiver.step(60)
    assert receiver.pod.metric("authz_revocation_refresh_total", source="hub", result="updated") == 1


def test_a_hub_that_never_ends_is_left_after_a_while(hub: FakeIdp, make: Callable[..., Receiver]) -> None:
    """Always another event: one fetch has a bound. And events without room are not acknowledged."""
    asked: list[dict[str, Any]] = []

    def answer(request: Request) -> Response:
        asked.append(json.loads(request.body))
        return json_response({"sets": {f"{len(asked)}": event(hub, {"format": "opaque", "id": f"{len(asked)}"})}})

    hub.answers[POLL] = answer
    receiver = make(max_entries=8)
    receiver.step()
    assert 9 <= len(asked) <= 16
    acknowledged = [jti for each in asked for jti in each.get("ack", [])]
    assert acknowledged == [str(number) for number in range(1, 9)]
    assert receiver.count("accepted") == 8
    assert CAEP
