"""Proves how many headers a request may have, as deploy/README.md says, with the real Envoy."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.harness import Stage


def pad(count: int) -> list[tuple[str, str]]:
    """Make headers of a client's."""
    return [(f"X-Pad-{number}", "1") for number in range(count)]


def test_headers_of_a_request(own_stage: Callable[..., Stage]) -> None:
    """A client's, Envoy's own and those that we set are 100 together; the twelve spellings to remove do not count."""
    stage = own_stage(max_headers=100)
    token = stage.alpha.mint()
    public = {count: stage.ask("/healthz", headers=pad(count)) for count in (90, 95)}
    known = {count: stage.ask("/orders/7", token=token, headers=pad(count)) for count in (85, 92)}
    assert {count: reply.status for count, reply in public.items()} == {90: 200, 95: 500}
    assert {count: reply.status for count, reply in known.items()} == {85: 200, 92: 500}
    assert public[95].answer.body == known[92].answer.body == b""
