"""Issuers change their keys, and go away, while requests are served."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from authz.feeds.refresh import MAX_BURST, Schedule
from tests.e2e.harness import Stage
from tests.fakes.idp import JWKS
from tests.fakes.waiting import wait_until


def test_a_new_key_is_picked_up_at_once(own_stage: Callable[..., Stage]) -> None:
    """The first request with an unknown kid waits for one refresh, and passes."""
    stage = own_stage()
    before, fetches = stage.alpha.mint(), stage.alpha.count(JWKS)
    stage.alpha.rotate()

    assert stage.ask(token=stage.alpha.mint()).status == 200
    assert stage.ask(token=before).status == 200
    assert stage.alpha.count(JWKS) == fetches + 1


def test_many_requests_with_a_new_key_cost_one_fetch(own_stage: Callable[..., Stage]) -> None:
    """A crowd of tokens by a new key is one refresh, and no one is informed that the key does not exist."""
    stage = own_stage()
    fetches = stage.alpha.count(JWKS)
    stage.alpha.rotate()
    tokens = [stage.alpha.mint(sub=f"user-{number}") for number in range(32)]

    with ThreadPoolExecutor(16) as crowd:
        replies = list(crowd.map(lambda token: stage.ask(token=token), tokens))

    assert stage.alpha.count(JWKS) == fetches + 1
    assert {reply.allowed or reply.refused for reply in replies} <= {"authenticated", "keys_unavailable"}
    wait_until(lambda: stage.ask(token=tokens[0]).status == 200)


def test_unknown_key_ids_cannot_make_us_fetch_again_and_again(own_stage: Callable[..., Stage]) -> None:
    """A stream of made-up kids causes the budget of fetches at most, gets 503 and tries again, and good tokens pass."""
    stage = own_stage()
    fetches, began = stage.alpha.count(JWKS), time.monotonic()

    for number in range(20):
        made_up = {**stage.alpha.key.header(), "kid": f"made-up-{number}"}
        assert stage.ask(token=stage.alpha.mint(header=made_up)).refused == "keys_unavailable"

    earned = (time.monotonic() - began) / Schedule().cooldown
    assert stage.alpha.count(JWKS) <= fetches + MAX_BURST + earned + 1
    assert stage.ask(token=stage.alpha.mint()).status == 200


def test_an_issuer_that_is_down_is_not_missed(own_stage: Callable[..., Stage]) -> None:
    """The the last good keys stay in use, for its own tokens and of course for others'."""
    stage = own_stage()
    stage.alpha.stop()

    assert stage.ask(token=stage.alpha.mint()).status == 200
    unknown = {**stage.alpha.key.header(), "kid": "made-up"}
    assert stage.ask(token=stage.alpha.mint(header=unknown)).refused in {"key_not_found", "keys_unavailable"}
    assert stage.ask(token=stage.alpha.mint()).status == 200
    assert stage.ask(token=stage.beta.mint()).status == 200


def test_an_issuer_that_hangs_delays_nobody_else(own_stage: Callable[..., Stage]) -> None:
    """While a refresh hangs, a token that needs it gets 503 and comes again; other tokens pass."""
    stage = own_stage(max_wait="1s")
    stage.alpha.answers[JWKS] = stage.alpha.hang
    known = stage.alpha.mint()
    stage.alpha.rotate()

    waiting = stage.ask(token=stage.alpha.mint())

    assert (waiting.status, waiting.refused) == (503, "keys_unavailable")
    assert waiting.answer.header("retry-after") == "1"
    assert stage.ask(token=known).status == 200
    assert stage.ask(token=stage.beta.mint()).status == 200


def test_a_key_that_becomes_blocked_is_refused_without_a_restart(own_stage: Callable[..., Stage]) -> None:
    """A new configuration is taken up while running, and a remembered signature does not outlive it."""
    stage = own_stage()
    token = stage.alpha.mint()
    assert stage.ask(token=token).status == 200

    config = stage.sidecar.config_file.read_text()
    stage.sidecar.config_file.write_text(config.replace("blocked_keys: []", f"blocked_keys: [{stage.alpha.key.kid!r}]"))

    wait_until(lambda: stage.ask(token=token).refused == "key_unusable")
    assert stage.ask(token=stage.beta.mint()).status == 200
