"""Proves that a sidecar that asks a Kubernetes API server about tokens stays safe, whatever the server does."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Final

import pytest

from authz.config.model import Config
from authz.core.introspection import Introspection, introspection_need
from authz.demo.loopback import RawResponse, Request, Responder, Response
from authz.envoy import ext_authz_pb2 as wire
from authz.facts.source import SourceError
from authz.feeds.http.client_auth import BearerTokenFile
from authz.feeds.introspection import IntrospectionTtl
from authz.feeds.token_review import TokenReviewSource
from tests.fakes.idp import FakeIdp, fail, flood, html, redirect, say
from tests.fakes.raw import RawServer, be_silent
from tests.fakes.raw import say as say_bytes
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.asking import make_poster
from tests.integration.fetching import SHORT
from tests.integration.sidecars import issuer
from tests.integration.station import Station
from tests.integration.test_token_review import GOOD, REVIEWS, USER, review

UNAVAILABLE: Final = "introspection_unavailable"
REVIEW: Final = json.dumps({"kind": "TokenReview", "status": GOOD}).encode()
ACCEPTING: Final = b'{"kind":"TokenReview","status":{"authenticated":true,'
FAULTS: Final[dict[str, tuple[Responder, str]]] = {
    "500": (fail(500), "status"),
    "503": (fail(503), "status"),
    "429": (fail(429), "status"),
    "400": (fail(400), "status"),
    "404": (fail(404), "status"),
    "401": (fail(401), "unauthorized"),
    "403": (fail(403), "unauthorized"),
    "204": (fail(204), "status"),
    "HTML": (html(), "unreadable"),
    "JSON as text": (say(REVIEW, content_type="text/plain"), "unreadable"),
    "JSON without a type": (lambda _: Response(201, (), REVIEW), "unreadable"),
    "not JSON": (say(b"authenticated"), "unreadable"),
    "a list": (say(b"[]"), "unreadable"),
    "nothing": (say(b""), "unreadable"),
    "a member twice": (say(b'{"status":{},' + REVIEW[1:]), "unreadable"),
    "another kind": (say(REVIEW.replace(b"TokenReview", b"SubjectAccessReview")), "unreadable"),
    "a failure of the API": (say(b'{"kind":"Status","status":"Failure","code":500}'), "unreadable"),
    "no status": (say(b'{"kind":"TokenReview"}'), "unreadable"),
    "authenticated as text": (review({**GOOD, "authenticated": "true"}), "unreadable"),
    "authenticated as a number": (review({**GOOD, "authenticated": 1}), "unreadable"),
    "authenticated as null": (review({**GOOD, "authenticated": None}), "unreadable"),
    "no user": (review({**GOOD, "user": None}), "unreadable"),
    "no audience": (review({**GOOD, "audiences": []}), "unreadable"),
    "audiences as text": (review({**GOOD, "audiences": "orders"}), "unreadable"),
    "huge": (flood(2), "too_large"),
    "redirect": (redirect("http://elsewhere.test/"), "redirect_refused"),
    "temporary redirect": (redirect("/other", status=307), "redirect_refused"),
}
HEAD: Final = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REVIEW)
RAW: Final[dict[str, tuple[Callable[[socket.socket, Event], None], str]]] = {
    "hangs up": (say_bytes(), "unreachable"),
    "reset in the middle": (say_bytes(HEAD, REVIEW[:-1]), "unreadable"),
    "no HTTP": (say_bytes(b"SSH-2.0-OpenSSH\r\n"), "unreachable"),
    "no first byte": (be_silent, "timeout"),
}


def refuse(url: str, folder: Path, *, timeout: float = HANG_SECONDS) -> SourceError:
    """Ask the API server at *url* what must fail, and return how it failed."""
    (folder / "own").write_text("sidecars-own-token")
    source = TokenReviewSource(
        make_poster(url, timeout=timeout),
        url,
        BearerTokenFile(str(folder / "own")),
        audiences=("orders",),
        ttl=IntrospectionTtl(active=60.0, inactive=5.0),
    )
    try:
        with pytest.raises(SourceError) as failed:
            source(introspection_need("a.stranger.token", "cluster", Introspection(client="", source="here")))
    finally:
        source.close()
    return failed.value


@pytest.mark.parametrize(("answer", "expected"), FAULTS.values(), ids=FAULTS)
def test_faults_are_failures(answer: Responder, expected: str, tmp_path: Path) -> None:
    """None is taken for an answer, in either direction; where a redirect leads no one goes, and no token is quoted."""
    with FakeIdp() as idp:
        idp.answers[REVIEWS] = answer
        failed = refuse(f"{idp.url}{REVIEWS}", tmp_path)
        assert (failed.result, failed.counts) == (expected, True)
        assert [request.path for request in idp.seen] == [REVIEWS]
    assert "stranger" not in str(failed)
    assert "sidecars-own-token" not in str(failed)


@pytest.mark.parametrize(("talk", "expected"), RAW.values(), ids=RAW)
def test_faults_below_http(talk: Callable[[socket.socket, Event], None], expected: str, tmp_path: Path) -> None:
    """Hung up, reset, silent: each ends by the deadline, as a failure; an answer without its last byte is none."""
    with RawServer(talk) as server:
        timeout = SHORT if expected == "timeout" else HANG_SECONDS
        assert refuse(f"http://127.0.0.1:{server.port}/", tmp_path, timeout=timeout).result == expected


def test_a_server_that_drips_gains_no_time(tmp_path: Path) -> None:
    """A byte every moment renews no deadline; nor does a last byte that never comes."""
    with FakeIdp() as idp:
        for slow in (idp.drip(seconds=SHORT / 4), without_end(idp)):
            idp.answers[REVIEWS] = slow
            assert refuse(f"{idp.url}{REVIEWS}", tmp_path, timeout=SHORT).result == "timeout"


def test_no_one_listens(tmp_path: Path) -> None:
    """A refused connection is a failure at once."""
    with FakeIdp() as idp:
        url = f"{idp.url}{REVIEWS}"
    assert refuse(url, tmp_path).result == "unreachable"


def without_end(idp: FakeIdp) -> Responder:
    """Accept the token, all but the last byte, until the server stops."""

    def pieces() -> Iterator[bytes]:
        yield HEAD + REVIEW[:-1]
        idp.hang(Request("GET", "/", (), b""))

    return lambda _: RawResponse(pieces())


@contextmanager
def asking(folder: Path, *, hasty: bool = False) -> Iterator[tuple[FakeIdp, FakeIdp, Station]]:
    """Yield an API server that is asked about each token of it, an issuer that is not asked, and the sidecar.

    A *hasty* one ends questions in milliseconds; for others there are bounds that only stop a hang.
    """
    (folder / "own").write_text("sidecars-own-token")
    with FakeIdp() as cluster, FakeIdp() as other:
        section = (
            f"  cluster:\n    issuer: {cluster.issuer}\n    audiences: [orders]\n    insecure: {{http: true}}\n"
            f"    introspection: {{kind: token_review, mode: always, url: '{cluster.url}{REVIEWS}', "
            f"client: {{bearer_token_file: {folder / 'own'}}}, "
            "max_wait: 100ms, timeout: 200ms, cache: 1h}\n"
        )
        made = Station(section + issuer("other", other)).settle()
        if not hasty:
            made.config = without_haste(made.config)
        with made as sidecar:
            yield cluster, other, sidecar


def without_haste(config: Config) -> Config:
    """Return *config* with more time for each question than settings allow."""
    long = timedelta(seconds=HANG_SECONDS)
    asked = config.issuers["cluster"].introspection
    assert asked is not None
    patient = asked.model_copy(update={"timeout": long, "max_wait": long})
    cluster = config.issuers["cluster"].model_copy(update={"introspection": patient})
    return config.model_copy(update={"issuers": {**config.issuers, "cluster": cluster}})


def token_of(cluster: FakeIdp, pod: str = "checkout-x7k2p") -> str:
    """A token of an account, bound to a pod."""
    bound: dict[str, object] = {
        "kubernetes.io": {"namespace": "shop", "pod": {"name": pod, "uid": "0b1c3f6e-9d5c-4a0f-8c57-0f7d3b6f4d0e"}}
    }
    return cluster.key.sign(cluster.claims(sub=USER, aud="orders", **bound))


@pytest.mark.parametrize("fault", [answer for answer, _ in FAULTS.values()], ids=FAULTS)
def test_a_fault_is_try_again_and_ends_with_the_fault(fault: Responder, tmp_path: Path) -> None:
    """Never an allow, never held against the token, and never cached; tokens of another issuer need none of it."""
    with asking(tmp_path) as (cluster, other, sidecar):
        cluster.answers[REVIEWS] = fault
        token = token_of(cluster)
        assert sidecar.ask(token) == UNAVAILABLE
        assert sidecar.ask(other.mint()) == "authenticated"
        cluster.answers[REVIEWS] = review(GOOD)
        assert sidecar.ask(token) == "authenticated"


@pytest.mark.parametrize("fault", ["400", "403", "500", "HTML", "no audience", "huge", "redirect"])
def test_a_token_without_an_answer_leaves_others_theirs(fault: str, tmp_path: Path) -> None:
    """A client whose token the API server, or a firewall before it, trips over opens no circuit breaker for others."""
    with asking(tmp_path) as (cluster, _, sidecar):
        cluster.answers[REVIEWS] = FAULTS[fault][0]
        for number in range(12):
            assert sidecar.ask(token_of(cluster, f"mallory-{number}")) == UNAVAILABLE
        cluster.answers[REVIEWS] = review(GOOD)
        assert sidecar.ask(token_of(cluster, "alice")) == "authenticated"
        assert sidecar.asked("cluster", "breaker_open") == 0


@pytest.mark.parametrize("fault", ["first byte", "last byte"])
def test_a_slow_server_is_waited_for_within_bounds(fault: str, tmp_path: Path) -> None:
    """Each check ends by its own bound, with 503; other requests do not notice, and the next ones are answered."""
    with asking(tmp_path, hasty=True) as (cluster, other, sidecar):
        cluster.answers[REVIEWS] = cluster.hang if fault == "first byte" else without_end(cluster)
        waiting = [sidecar.begin(token_of(cluster, f"pod-{number}")) for number in range(8)]
        assert sidecar.ask(other.mint()) == "authenticated"
        for answers in waiting:
            answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
            assert answer.dynamic_metadata.fields["reason"].string_value == UNAVAILABLE
            assert answer.denied_response.status.code == 503
        cluster.stop()


def test_a_server_that_restarts_under_load_is_left_alone_and_comes_back(tmp_path: Path) -> None:
    """Questions in flight are reset, and end with 503; what was learned serves on; and new tokens try again."""
    with asking(tmp_path) as (cluster, _, sidecar):
        cluster.answers[REVIEWS] = review(GOOD)
        known = token_of(cluster, "known")
        assert sidecar.ask(known) == "authenticated"
        before = cluster.count(REVIEWS)
        cluster.answers[REVIEWS] = cluster.hang
        waiting = [sidecar.begin(token_of(cluster, f"in-flight-{number}")) for number in range(8)]
        wait_until(lambda: cluster.count(REVIEWS) == before + len(waiting))
        cluster.stop()
        for answers in waiting:
            answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
            assert answer.dynamic_metadata.fields["reason"].string_value == UNAVAILABLE
        new = [token_of(cluster, f"new-{number}") for number in range(8)]
        assert {sidecar.ask(token) for token in new} == {UNAVAILABLE}
        assert sidecar.ask(known) == "authenticated"
        assert sidecar.asked("cluster", "breaker_open") > 0
        cluster.answers[REVIEWS] = review(GOOD)
        cluster.start()
        wait_until(lambda: {sidecar.ask(token) for token in new} == {"authenticated"})


def test_64_checks_with_one_new_token_ask_once(tmp_path: Path) -> None:
    """Anyone who comes while the answer is pending shares it."""
    with asking(tmp_path) as (cluster, _, sidecar):
        cluster.answers[REVIEWS] = review(GOOD)
        token = token_of(cluster)
        waiting = [sidecar.begin(token) for _ in range(64)]
        answers = [wire.CheckResponse.FromString(each.get(timeout=HANG_SECONDS)) for each in waiting]
        assert {answer.status.code for answer in answers} == {0}
        assert cluster.count(REVIEWS) == 1


def test_the_server_is_asked_about_no_token_that_it_has_not_signed(tmp_path: Path) -> None:
    """A flood of forgeries, strangers' and expired tokens is no question to it."""
    with asking(tmp_path) as (cluster, other, sidecar):
        cluster.answers[REVIEWS] = review(GOOD)
        forged = [cluster.mint(sub=USER, aud="orders", key=other.key, jti=str(number)) for number in range(50)]
        expired = [cluster.mint(sub=USER, aud="orders", exp=1), cluster.mint(sub=USER, aud="elsewhere"), "opaque"]
        assert "authenticated" not in {sidecar.ask(token) for token in (*forged, *expired)}
        assert cluster.count(REVIEWS) == 0


def test_our_own_token_is_renewed_in_its_file(tmp_path: Path) -> None:
    """The kubelet replaces it in time; one that was refused meanwhile costs no restart."""
    with asking(tmp_path) as (cluster, _, sidecar):

        def answer(request: Request) -> Response:
            sent = {name.lower(): value for name, value in request.headers}
            good = sent["authorization"] == "Bearer renewed"
            response = (review(GOOD) if good else fail(401))(request)
            assert isinstance(response, Response)
            return response

        cluster.answers[REVIEWS] = answer
        assert sidecar.ask(token_of(cluster)) == UNAVAILABLE
        (tmp_path / "new").write_text("renewed")
        (tmp_path / "new").replace(tmp_path / "own")
        assert sidecar.ask(token_of(cluster)) == "authenticated"
