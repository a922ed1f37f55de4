"""Proves security events (Shared Signals) at real processes: pushed, fetched, refused, and known to both workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.admin.receivers import MAX_MESSAGE_BYTES
from authz.demo.client import Answer, send
from authz.demo.loopback import Request, Response, json_response
from authz.demo.signing import SigningKey
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.integration.crew import crew
from tests.integration.sidecars import issuer, running
from tests.unit.envoy.serving import short_folder

US = "https://api.test/ssf"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
POLL = "/poll"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer."""
    with FakeIdp() as provider:
        yield provider


@pytest.fixture
def hub() -> Iterator[FakeIdp]:
    """A transmitter, with keys of its own."""
    with FakeIdp() as transmitter:
        yield transmitter


def event(hub: FakeIdp, subject: object, *, name: str = "session-revoked", key: SigningKey | None = None) -> str:
    """Write a SET of the hub, with its name in place of a jti."""
    claims = {"sub_id": subject, "events": {f"{CAEP}{name}": {}}, "jti": json.dumps(subject), "aud": US}
    signer = key or hub.key
    return signer.sign(hub.claims(sub=None, exp=None, **claims), header={**signer.header(), "typ": "secevent+jwt"})


def push(address: str, token: str, bearer: str | None = "t0ken", *, kind: str = "application/secevent+jwt") -> Answer:
    """Deliver an event (RFC 8935)."""
    headers = [("content-type", kind), *([] if bearer is None else [("authorization", f"Bearer {bearer}")])]
    return send(f"http://{address}/events", method="POST", headers=headers, body=token.encode())


def trusting(hub: FakeIdp, more: str) -> str:
    """Configure the hub as a transmitter about tokens of the issuer a."""
    common = f"issuer: {hub.issuer}, audiences: [{US}], revokes_for: [a], insecure: {{http: true}}"
    return f"revocation: {{transmitters: {{hub: {{{common}, {more}}}}}}}\n"


def subject(idp: FakeIdp, name: str) -> dict[str, Any]:
    """Identify a subject of the issuer."""
    return {"format": "iss_sub", "iss": idp.issuer, "sub": name}


def test_events_are_pushed(folder: Path, idp: FakeIdp, hub: FakeIdp) -> None:
    """Each answer is that of RFC 8935; what is refused ends nothing, and says why by its code."""
    address, token_file = free_address(), folder / "push"
    token_file.write_text("t0ken\n")
    more = f"receivers: {{listen: {address}}}\n" + trusting(hub, f"push_token_file: {token_file}")
    eve, bob = idp.mint(sub="eve"), idp.mint(sub="bob")
    about_eve = event(hub, subject(idp, "eve"))
    stranger = SigningKey.create("ES256", kid=hub.key.kid)
    with running(folder, issuer("a", idp), more=more) as sidecar:
        sidecar.await_ready()
        wait_until(lambda: push(address, event(hub, subject(idp, "eve"), name="unheard-of")).status == 202)
        refused = {
            "invalid_key": push(address, event(hub, subject(idp, "eve"), key=stranger)),
            "authentication_failed": push(address, about_eve, "wrong"),
            "access_denied": push(address, event(hub, {"format": "iss_sub", "iss": hub.issuer, "sub": "eve"})),
            "invalid_issuer": push(address, event(idp, subject(idp, "eve"))),
            "invalid_request": push(address, eve),
        }
        for code, answer in refused.items():
            assert (answer.status, answer.json()["err"], answer.header("cache-control")) == (400, code, "no-store")
            assert answer.header("content-language") == "en"
        assert push(address, about_eve, None).json()["err"] == "authentication_failed"
        assert push(address, about_eve, kind="application/json").json()["err"] == "invalid_request"
        assert sidecar.check(eve) == "authenticated"
        assert sidecar.check(about_eve) == "issuer_unknown"
        assert [push(address, about_eve).status for _ in range(2)] == [202, 202]
        assert (sidecar.check(eve), sidecar.check(bob)) == ("token_revoked", "authenticated")


class Stream:
    """The events of a hub that are fetched (RFC 8936), until each is acknowledged or reported."""

    def __init__(self, *tokens: str) -> None:
        self.waiting = {str(number): token for number, token in enumerate(tokens)}
        self.errors: dict[str, Any] = {}
        self.bearers: set[str] = set()

    def answer(self, request: Request) -> Response:
        """Answer one request; one event at a time."""
        asked = json.loads(request.body)
        self.bearers |= {value for name, value in request.headers if name.lower() == "authorization"}
        self.errors |= asked.get("setErrs", {})
        for jti in [*asked.get("ack", []), *asked.get("setErrs", {})]:
            self.waiting.pop(jti, None)
        return json_response({"sets": dict(list(self.waiting.items())[:1]), "moreAvailable": len(self.waiting) > 1})


def test_events_are_fetched(folder: Path, idp: FakeIdp, hub: FakeIdp) -> None:
    """All that wait are fetched at once, each is acknowledged or reported, and a hub that is down is asked again."""
    token_file = folder / "poll"
    token_file.write_text("p0ll\n")
    eve, mallory, bob = (idp.mint(sub=name) for name in ("eve", "mallory", "bob"))
    stream = Stream(event(hub, subject(idp, "eve")), event(hub, "no subject"), event(hub, subject(idp, "mallory")))
    hub.answers[POLL] = lambda _: Response(503)
    more = trusting(hub, f"poll_url: '{hub.url}{POLL}', poll_interval: 1s, poll_token_file: {token_file}")
    with running(folder, issuer("a", idp), more=more) as sidecar:
        sidecar.await_ready()
        wait_until(lambda: hub.count(POLL) > 0)
        assert sidecar.check(eve) == "authenticated"
        hub.answers[POLL] = stream.answer
        wait_until(lambda: not stream.waiting)
        assert [sidecar.check(token) for token in (eve, mallory, bob)] == ["token_revoked"] * 2 + ["authenticated"]
        assert {jti: error["err"] for jti, error in stream.errors.items()} == {"1": "invalid_request"}
        assert stream.bearers == {"Bearer p0ll"}


def test_an_event_reaches_both_workers(folder: Path, idp: FakeIdp, hub: FakeIdp) -> None:
    """The supervisor receives it, with its credentials, for whichever worker verifies it."""
    address, token_file, token = free_address(), folder / "push", idp.mint(email="Eve@a.test")
    token_file.write_text("t0ken\n")
    more = f"receivers: {{listen: {address}}}\n" + trusting(hub, f"push_token_file: {token_file}")
    about_eve = event(hub, {"format": "email", "email": "eve@a.test"}, name="token-claims-change")
    with crew(folder, issuer("a", idp), more=more) as two:
        two.await_ready()
        wait_until(lambda: push(address, about_eve).status == 202)
        assert [two.check(number, token) for number in (0, 1)] == ["token_revoked"] * 2
        assert push(address, about_eve, "wrong").json()["err"] == "authentication_failed"
        largest = push(address, "x" * MAX_MESSAGE_BYTES)  # a worker reads it, and says what is wrong with it
        assert (largest.status, largest.json()["err"]) == (400, "invalid_request")
        assert push(address, "x" * (MAX_MESSAGE_BYTES + 1)).status == 413
