"""Proves the probes of status lists and transmitters: what `check-config --fetch` says is what a check would meet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from authz.config.load import parse
from authz.config.model import Config
from authz.demo.loopback import Request, Response, json_response
from authz.demo.signing import SigningKey
from authz.tooling.key_probe import probe_keys
from authz.tooling.status_list_probe import ProbedStatusList, probe_status_lists
from authz.tooling.transmitter_probe import ProbedTransmitter, probe_transmitters
from tests.cases.status_list import pack
from tests.fakes.idp import DISCOVERY, JWKS, FakeIdp, fail

LIST = "/lists/1"


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer, and a transmitter."""
    with FakeIdp() as made:
        yield made


def write_list(idp: FakeIdp, key: SigningKey | None = None, **claims: object) -> str:
    """Write a list of eight entries."""
    now = int(time.time())
    body = {"sub": idp.url + LIST, "iat": now, "exp": now + 600, "status_list": pack(0, 0, 0, 1, bits=1), **claims}
    signer = key or idp.key
    return signer.sign(body, header={**signer.header(), "typ": "statuslist+jwt"})


def configure(idp: FakeIdp, lists: dict[str, object] | None = None, **more: object) -> Config:
    """Configure the issuer, with a list by its URI and others below a folder."""
    issuer = {
        "issuer": idp.issuer,
        "audiences": ["api"],
        "insecure": {"http": True},
        "status_list": {"uris": [idp.url + LIST, f"{idp.url}/others/"], **(lists or {})},
    }
    rules = [{"name": "all", "match": {"paths": ["/**"]}}]
    return parse(json.dumps({"version": 1, "issuers": {"a": issuer}, "rules": rules, **more}), file="authz.yaml")


def probe_lists(idp: FakeIdp, **lists: object) -> list[ProbedStatusList]:
    """Fetch keys and lists."""
    config = configure(idp, lists)
    return probe_status_lists(config, {each.issuer: each.keys for each in probe_keys(config)})


def test_a_list_is_fetched_and_verified(idp: FakeIdp) -> None:
    """One that is named whole; of others only tokens know the URI. A revoked first entry is no fault of the list."""
    idp.answers[LIST] = lambda _: Response(200, body=write_list(idp, status_list=pack(1, 0, bits=1)).encode())
    good, folder = probe_lists(idp)
    assert (good.ok, good.entries) == (True, 8)
    assert list(good.lines()) == [f"status list of a: {idp.url}{LIST}", "  verified      room for 8 tokens"]
    assert (folder.ok, folder.document()["tried"]) == (True, False)
    assert list(folder.lines())[1:] == ["  not tried     tokens name the rest of the URI"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sub": "https://other.test/1"}, "its sub is not the URI that the token names"),
        ({"exp": 1}, "it expired"),
        ({"status_list": {"bits": 3, "lst": ""}}, "its bits are none of 1, 2, 4 and 8"),
        ({"key": SigningKey.create("ES256")}, "key"),
    ],
)
def test_what_a_check_would_refuse_is_shown(idp: FakeIdp, change: dict[str, object], why: str) -> None:
    """A list of another URI, an old one, a malformed one, and one that the issuer has not signed."""
    text = write_list(idp, **change)  # type: ignore[arg-type]  # members by name
    idp.answers[LIST] = lambda _: Response(200, body=text.encode())
    found = probe_lists(idp)[0]
    assert not found.ok
    assert why in (found.error or "")
    assert found.document()["detail"] == found.error
    assert "failed" in list(found.lines())[1]


def test_lists_with_keys_of_their_own_are_verified_by_those(idp: FakeIdp) -> None:
    """What the issuer signed is no list then."""
    with FakeIdp() as status:
        own = {"jwks_uri": f"{status.url}{JWKS}"}
        idp.answers[LIST] = lambda _: Response(200, body=write_list(idp, status.key).encode())
        assert (probe_lists(idp, **own)[0].entries, probe_lists(idp)[0].ok) == (8, False)
        idp.answers[LIST] = lambda _: Response(200, body=write_list(idp).encode())
        assert not probe_lists(idp, **own)[0].ok


def test_a_server_without_the_list_is_shown(idp: FakeIdp) -> None:
    """By the status of its answer."""
    assert "HTTP status 404" in (probe_lists(idp)[0].error or "")


def probe_hub(idp: FakeIdp, **more: object) -> ProbedTransmitter:
    """Ask the only transmitter."""
    hub = {"issuer": idp.issuer, "audiences": ["us"], "revokes_for": ["a"], "insecure": {"http": True}, **more}
    config = configure(idp, revocation={"transmitters": {"hub": hub}}, receivers={"listen": "127.0.0.1:1"})
    (found,) = probe_transmitters(config)
    return found


def test_a_transmitter_is_asked_for_keys_and_no_event(idp: FakeIdp) -> None:
    """Nothing is taken out of its stream: no event is asked for, and none acknowledged."""
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return json_response({"sets": {}})

    idp.answers["/poll"] = answer
    assert probe_hub(idp).findings == ("keys for its events: 1",)
    found = probe_hub(idp, poll_url=f"{idp.url}/poll")
    assert (found.ok, found.findings[1:]) == (True, ("poll_url answers; no event was taken",))
    assert [json.loads(request.body) for request in asked] == [{"maxEvents": 0, "returnImmediately": True}]
    assert next(iter(found.lines())).startswith(f"transmitter hub: {idp.url}/.well-known/ssf-configuration")


def test_a_transmitter_that_cannot_be_used_is_shown(idp: FakeIdp) -> None:
    """Without keys, without metadata, and one that refuses us at its stream; with what to do."""
    refused = probe_hub(idp, poll_url=f"{idp.url}/poll")
    assert (refused.ok, "HTTP status 404" in refused.findings[0]) == (False, True)
    assert "check the URL" in list(refused.lines())[-1]
    idp.answers[JWKS] = lambda _: json_response({"keys": []})
    assert "no usable key" in probe_hub(idp).findings[0]
    idp.answers[DISCOVERY] = fail(404)
    lost = probe_hub(idp)
    assert (lost.ok, lost.document()["findings"]) == (False, list(lost.findings))
