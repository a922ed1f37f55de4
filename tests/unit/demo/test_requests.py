"""The requests of the demo, as curl lines and as judged outcomes."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from authz.demo.loopback import LoopbackServer, Request, Response, json_response
from authz.demo.provider import Provider
from authz.demo.requests import ALLOWED, TOUR, Visit, exit_status
from authz.demo.upstream import echo_server

TITLES = [visit.title for visit in TOUR]


def upstream_saw(*headers: tuple[str, str]) -> Response:
    """What an Envoy would pass on of an upstream that saw these headers."""
    return json_response({"method": "GET", "target": "/orders/7", "headers": headers})


def visit_with(response: Response, visit: Visit = ALLOWED) -> Any:  # noqa: ANN401 - see the fields
    """The outcome of a visit to a front that always answers so."""
    with Provider(audience="orders-api") as provider, LoopbackServer(lambda _: response) as front:
        return visit.send(front=front.url, issuer=provider.issuer)


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
@pytest.mark.parametrize("visit", TOUR, ids=TITLES)
def test_a_pasted_line_sends_what_the_demo_sends(visit: Visit) -> None:
    """The curl line, run by a shell, makes the same request as `--once` does, token aside."""
    seen: list[Request] = []

    def record(request: Request) -> Response:
        seen.append(request)
        return Response(204)

    with Provider(audience="orders-api") as provider, LoopbackServer(record) as front:
        subprocess.run(
            ["/bin/sh", "-c", visit.curl(front=front.url, issuer=provider.issuer)], check=True, capture_output=True
        )
        visit.send(front=front.url, issuer=provider.issuer)

    pasted, sent = ([r.method, r.target, *sorted(n for n, _ in r.headers if n.lower() in NAMES)] for r in seen)
    assert pasted == sent
    assert ("Authorization" in pasted) == (visit.token is not None)


NAMES = {"authorization", "x-auth-subject", "x_auth_subject"}


def test_an_allow_with_the_right_identity_is_as_it_should() -> None:
    """Status, reason and identity headers together make it right."""
    scopes, subject = ("x-auth-scopes", "orders:read"), ("x-auth-subject", "alice")

    outcome = visit_with(upstream_saw(("x-authz-reason", "authenticated"), subject, scopes))

    assert outcome.as_it_should
    assert outcome.view == "x-auth-scopes: orders:read\nx-auth-subject: alice"


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
    outcome = visit_with(upstream_saw(("x-authz-reason", "authenticated"), *headers))

    assert outcome.status == 200
    assert not outcome.as_it_should


def test_a_denial_for_the_wrong_reason_is_not_as_it_should() -> None:
    """The reason counts, not only the status."""
    visit = TOUR[TITLES.index("expired")]

    right = visit_with(json_response({"reason": "token_expired"}, status=401), visit)
    wrong = visit_with(json_response({"reason": "signature_invalid"}, status=401), visit)

    assert (right.as_it_should, wrong.as_it_should) == (True, False)


def test_success_needs_every_outcome_right() -> None:
    """One wrong outcome is a failure, and so is having tried nothing."""
    visit = TOUR[TITLES.index("expired")]
    right = visit_with(json_response({"reason": "token_expired"}, status=401), visit)
    wrong = visit_with(json_response({"reason": "token_expired"}, status=403), visit)

    assert exit_status([right, right]) == 0
    assert exit_status([right, wrong]) == 1
    assert exit_status([]) == 1


def test_an_unreachable_front_is_an_outcome_too() -> None:
    """A connection that fails is shown in the table and is no crash."""
    with echo_server() as gone:
        front = gone.url

    outcome = replace(ALLOWED, token=None).send(front=front, issuer="")

    assert (outcome.status, outcome.as_it_should) == (0, False)
    assert outcome.reason.startswith("ConnectionRefusedError")
