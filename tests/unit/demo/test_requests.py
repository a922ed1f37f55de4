"""The requests of the demo, as curl lines and as evaluated outcomes."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from authz.demo.loopback import LoopbackServer, Request, Response, json_response
from authz.demo.provider import Provider
from authz.demo.requests import ALLOWED, REQUESTS, DemoStep, exit_status
from authz.demo.upstream import echo_server

TITLES = [step.title for step in REQUESTS]


def upstream_saw(*headers: tuple[str, str], verified: str = "alice, orders:read") -> Response:
    """What an Envoy would pass on of an upstream that saw these headers, and *verified* a token."""
    return json_response({"method": "GET", "target": "/orders/7", "headers": headers, "verified": [verified]})


def outcome_of(response: Response, step: DemoStep = ALLOWED) -> Any:  # noqa: ANN401 - see the fields
    """The outcome of a step if the front always answers with this response."""
    with Provider(audience="orders-api") as provider, LoopbackServer(lambda _: response) as front:
        return step.send(front=front.url, issuer=provider.issuer)


def test_the_tour_tries_what_the_demo_promises() -> None:
    """Allowed, each class of denial, and a forged header are all there."""
    assert TITLES == [
        "allowed",
        "no token",
        "expired",
        "wrong audience",
        "missing scope",
        "forged x-auth-subject",
        "public, forged too",
    ]


@pytest.mark.needs("curl")
@pytest.mark.parametrize("step", REQUESTS, ids=TITLES)
def test_a_pasted_line_sends_what_the_demo_sends(step: DemoStep) -> None:
    """The curl line, run by a shell, makes the same request as `--once` does, token aside."""
    seen: list[Request] = []

    def record(request: Request) -> Response:
        seen.append(request)
        return Response(204)

    with Provider(audience="orders-api") as provider, LoopbackServer(record) as front:
        subprocess.run(
            ["/bin/sh", "-c", step.curl(front=front.url, issuer=provider.issuer)], check=True, capture_output=True
        )
        step.send(front=front.url, issuer=provider.issuer)

    pasted, sent = ([r.method, r.target, *sorted(n for n, _ in r.headers if n.lower() in NAMES)] for r in seen)
    assert pasted == sent
    assert ("Authorization" in pasted) == (step.token is not None)


NAMES = {"authorization", "x-auth-subject", "x_auth_subject"}


def test_an_allow_with_the_right_identity_passes() -> None:
    """Status, reason and identity headers together make it right."""
    scopes, subject = ("x-auth-scopes", "orders:read"), ("x-auth-subject", "alice")

    outcome = outcome_of(upstream_saw(("x-authz-reason", "authenticated"), subject, scopes))

    assert outcome.passed
    assert outcome.view == "x-auth-scopes: orders:read\nx-auth-subject: alice\nverified: alice, orders:read"
    refused = upstream_saw(("x-authz-reason", "authenticated"), subject, scopes, verified="refused: key_not_found")
    assert not outcome_of(refused).passed


@pytest.mark.parametrize(
    "headers",
    [
        [("x-auth-scopes", "orders:read"), ("x-auth-subject", "admin")],
        [("x-auth-scopes", "orders:read"), ("x-auth-subject", "alice"), ("x-auth-subject", "admin")],
        [("x-auth-scopes", "orders:read"), ("x-auth-subject", "alice"), ("x_auth_subject", "admin")],
        [("x-auth-scopes", "orders:read")],
        [],
    ],
)
def test_an_allow_with_another_identity_is_not(headers: list[tuple[str, str]]) -> None:
    """A forged, doubled, respelled or missing identity is seen, though the status is right."""
    outcome = outcome_of(upstream_saw(("x-authz-reason", "authenticated"), *headers))

    assert outcome.status == 200
    assert not outcome.passed


def test_a_denial_for_the_wrong_reason_does_not_pass() -> None:
    """The reason counts, not only the status."""
    step = REQUESTS[TITLES.index("expired")]

    right = outcome_of(json_response({"reason": "token_expired"}, status=401), step)
    wrong = outcome_of(json_response({"reason": "signature_invalid"}, status=401), step)

    assert (right.passed, wrong.passed) == (True, False)


def test_success_needs_every_outcome_right() -> None:
    """One wrong outcome is a failure, and so is having tried nothing."""
    step = REQUESTS[TITLES.index("expired")]
    right = outcome_of(json_response({"reason": "token_expired"}, status=401), step)
    wrong = outcome_of(json_response({"reason": "token_expired"}, status=403), step)

    assert exit_status([right, right]) == 0
    assert exit_status([right, wrong]) == 1
    assert exit_status([]) == 1


def test_an_unreachable_front_is_an_outcome_too() -> None:
    """A connection that fails is shown in the table and is no crash."""
    with echo_server() as gone:
        front = gone.url

    outcome = replace(ALLOWED, token=None).send(front=front, issuer="")

    assert (outcome.status, outcome.passed) == (0, False)
    assert outcome.reason.startswith("ConnectionRefusedError")
