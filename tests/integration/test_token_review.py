"""Proves what a Kubernetes API server is asked about a token, and how its answers are read, in the form of 1.37."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from authz.config.load import parse
from authz.demo.loopback import Request, Responder, Response, json_response
from authz.tooling.introspection_probe import probe_introspection
from tests.fakes.idp import FakeIdp, fail, html
from tests.integration.station import Station

REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
USER: Final = "system:serviceaccount:shop:checkout"
GOOD: Final[dict[str, Any]] = {
    "authenticated": True,
    "user": {
        "username": USER,
        "uid": "0b1c3f6e-9d5c-4a0f-8c57-0f7d3b6f4d0e",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
        "extra": {"authentication.kubernetes.io/pod-name": ["checkout-x7k2p"]},
    },
    "audiences": ["orders"],
}
DELETED: Final = {
    "user": {},
    "error": "[invalid bearer token, pod shop/checkout-x7k2p not found, service account token has been invalidated]",
}


def review(status: object) -> Responder:
    """Answer as an API server does: the question again, with a status."""

    def answer(request: Request) -> Response:
        asked = json.loads(request.body)
        return json_response({**asked, "metadata": {}, "status": status}, status=201)

    return answer


def section(idp: FakeIdp, folder: Path) -> str:
    """Write an issuer that is asked by TokenReview."""
    (folder / "own").write_text("sidecars-own-token")
    return (
        f"  cluster:\n    issuer: {idp.issuer}\n    audiences: [orders]\n    insecure: {{http: true}}\n"
        f"    introspection: {{kind: token_review, mode: always, url: '{idp.url}{REVIEWS}', "
        f"cache: 0s, client: {{bearer_token_file: {folder / 'own'}}}}}\n"
    )


@contextmanager
def asking(folder: Path, answer: Responder) -> Iterator[tuple[FakeIdp, Callable[[], str]]]:
    """Yield an API server, and what sends a request with a token of an account."""
    with FakeIdp() as idp:
        idp.answers[REVIEWS] = answer
        with Station(section(idp, folder)).settle() as sidecar:
            yield idp, lambda: sidecar.ask(idp.mint(sub=USER, aud="orders"))


def test_the_question_is_a_token_review(tmp_path: Path) -> None:
    """With the token, our audiences and our own credentials; what comes is the answer about this token."""
    with asking(tmp_path, review(GOOD)) as (idp, send):
        assert send() == "authenticated"
        (asked,) = [request for request in idp.seen if request.path == REVIEWS]
    body = json.loads(asked.body)
    assert (body["apiVersion"], body["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
    assert body["spec"]["audiences"] == ["orders"]
    assert body["spec"]["token"].count(".") == 2
    sent = {name.lower(): value for name, value in asked.headers}
    assert (asked.method, sent["content-type"]) == ("POST", "application/json")
    assert sent["authorization"] == "Bearer sidecars-own-token"


def test_the_token_of_a_deleted_pod_is_refused(tmp_path: Path) -> None:
    """Its signature and its times are as good as before; the API server knows that its pod is gone."""
    with asking(tmp_path, review(GOOD)) as (idp, send):
        assert send() == "authenticated"
        idp.answers[REVIEWS] = review(DELETED)
        assert send() == "token_inactive"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (review({"authenticated": False}), "token_inactive"),
        (review({**GOOD, "user": {"username": "system:serviceaccount:evil:checkout"}}), "token_inactive"),
        (review({**GOOD, "audiences": ["https://kubernetes.default.svc"]}), "introspection_unavailable"),
        (review({name: value for name, value in GOOD.items() if name != "audiences"}), "introspection_unavailable"),
        (review({**GOOD, "authenticated": "true"}), "introspection_unavailable"),
        (review({**GOOD, "user": {}}), "introspection_unavailable"),
        (review(None), "introspection_unavailable"),
        (fail(403), "introspection_unavailable"),
        (fail(401), "introspection_unavailable"),
        (fail(500), "introspection_unavailable"),
        (html(), "introspection_unavailable"),
    ],
)
def test_what_else_comes(answer: Responder, reason: str, tmp_path: Path) -> None:
    """Another account, a server that does not know audiences, one that does not know us: no such request is allowed."""
    with asking(tmp_path, answer) as (_, send):
        assert send() == reason


@pytest.mark.parametrize(("answer", "ok"), [(review(DELETED), True), (fail(403), False), (review(GOOD), False)])
def test_check_config_asks_about_a_token_that_was_never_issued(answer: Responder, *, ok: bool, tmp_path: Path) -> None:
    """So the operator learns before the first token whether our account may ask."""
    with FakeIdp() as idp:
        idp.answers[REVIEWS] = answer
        text = f"version: 1\nissuers:\n{section(idp, tmp_path)}rules:\n  - match: {{paths: [/**]}}\n"
        (found,) = probe_introspection(parse(text, file="authz.yaml"))
    assert found.ok is ok
    assert any("tokenreviews" in finding for finding in found.findings) is (found.ok or "403" in found.findings[0])
