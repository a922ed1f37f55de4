"""Proves what the sidecar asks an issuer about a token, and how it reads what real servers answer, by real sockets."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

import pytest

from authz.core import base64url
from authz.core.introspection import IntrospectionResponse, SignedIntrospectionResponse
from authz.core.keys import KeySet
from authz.core.needs import Unanswered
from authz.core.token import parse_token
from authz.demo.loopback import Request, Responder, Response, json_response
from authz.demo.signing import SigningKey
from authz.facts.bounds import Bounds
from authz.facts.lane import SourceLane
from authz.facts.source import SourceError
from authz.feeds.failure import RefreshError
from authz.feeds.health import HEALTHY_SECONDS
from authz.feeds.http.client_auth import (
    BearerTokenFile,
    ClientAuth,
    ClientSecretBasicFile,
    NoAuth,
    PrivateKeyJwt,
    TlsClientAuth,
)
from authz.feeds.introspection import IntrospectionSource
from authz.feeds.oauth_client import Endpoint
from authz.telemetry.keys import Refresh
from tests.fakes.clock import FakeClock
from tests.fakes.idp import FakeIdp, fail, flood, html, redirect, say
from tests.fakes.raw import RawServer, be_silent
from tests.fakes.raw import say as say_bytes
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import T
from tests.integration.asking import INTROSPECT, about, close_sources, endpoint_of, make_source, secret
from tests.integration.fetching import SHORT, make_fetcher
from tests.tools import ROOT

SAMPLES = json.loads((ROOT / "tests/data/introspection.json").read_text(encoding="utf-8"))
ACTIVE = {"active": True, "sub": "alice", "exp": T + 600, "token_type": "Bearer"}


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    close_sources()


def refuse(source: IntrospectionSource, token: str = "XMQdFed_ds5t") -> SourceError:
    """Ask what must fail, and return how it failed."""
    with pytest.raises(SourceError) as failed:
        source(about(token))
    return failed.value


def test_the_question_is_token_and_hint_and_nothing_else(tmp_path: Path) -> None:
    """By POST, as a form, and never with `scope`; the credentials are in the header."""
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = lambda _: json_response(ACTIVE)
        fact = make_source(endpoint_of(idp), secret(tmp_path))(about("a+/=b"))
        (request,) = idp.seen
    assert isinstance(fact.value, IntrospectionResponse)
    assert fact.value.members == ACTIVE
    assert json.loads(fact.value.payload) == ACTIVE
    assert (request.method, request.parameters) == ("POST", {"token": "a+/=b", "token_type_hint": "access_token"})
    sent = {name.lower(): value for name, value in request.headers}
    assert sent["content-type"] == "application/x-www-form-urlencoded"
    assert sent["accept"] == "application/json"
    assert base64.b64decode(sent["authorization"].removeprefix("Basic ")) == b"rs:rs-secret"


def test_basic_credentials_are_form_encoded_before_base64(tmp_path: Path) -> None:
    """A `+`, `%` or `:` in them is refused otherwise: oidc-provider answers 400 (RFC 6749 section 2.3.1)."""
    (tmp_path / "secret").write_text("a+b%c:d e\n")
    header = ClientSecretBasicFile("r:s", str(tmp_path / "secret")).credentials().headers["authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")) == b"r%3As:a%2Bb%25c%3Ad+e"


def test_an_assertion_is_used_once(tmp_path: Path) -> None:
    """oidc-provider answers 401 to the second use; the audience is the issuer, and the key signed it."""
    key = SigningKey.create("ES256", kid="ours")
    (tmp_path / "key.pem").write_bytes(key.jwk.export_to_pem(private_key=True, password=None))
    auth = PrivateKeyJwt("rs", str(tmp_path / "key.pem"), "https://idp.test", key_id="ours", now=lambda: float(T))
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = lambda _: json_response(ACTIVE)
        source = make_source(endpoint_of(idp), auth)
        source(about("one"))
        source(about("two"))
        forms = [request.parameters for request in idp.seen]
    heads, claims = [], []
    for form in forms:
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        head, payload, _ = form["client_assertion"].split(".")
        heads.append(json.loads(base64url.decode(head.encode())))
        claims.append(json.loads(base64url.decode(payload.encode())))
    assert heads[0] == {"alg": "ES256", "typ": "JWT", "kid": "ours"}
    assert claims[0]["jti"] != claims[1]["jti"]
    assert {name: claims[0][name] for name in ("iss", "sub", "aud", "iat", "exp")} == {
        "iss": "rs",
        "sub": "rs",
        "aud": "https://idp.test",
        "iat": T,
        "exp": T + 60,
    }


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
def test_an_assertion_is_signed_by_the_key_in_the_file(algorithm: str, tmp_path: Path) -> None:
    """PEM or JWK, of each usual kind."""
    key = SigningKey.create(algorithm, kid="ours")
    (tmp_path / "key.json").write_text(key.jwk.export_private())
    proof = PrivateKeyJwt("rs", str(tmp_path / "key.json"), "aud", key_id="ours", algorithm=algorithm).credentials()
    token = parse_token(proof.fields["client_assertion"])
    keys = KeySet.from_json(json.dumps({"keys": [key.public()]}))
    assert keys.verify(token, frozenset({algorithm})).members["iss"] == "rs"


def test_other_proofs_of_who_asks(tmp_path: Path) -> None:
    """A bearer token goes into the header; with mutual TLS the form names the client."""
    (tmp_path / "token").write_text("abc\n")
    assert BearerTokenFile(str(tmp_path / "token")).credentials().headers == {"authorization": "Bearer abc"}
    assert TlsClientAuth("rs").credentials().fields == {"client_id": "rs"}


@pytest.mark.parametrize(
    "auth",
    [
        ClientSecretBasicFile("rs", "/nowhere/secret"),
        PrivateKeyJwt("rs", "/nowhere/key", "aud"),
        BearerTokenFile("/nowhere/token"),
    ],
)
def test_a_secret_that_is_away_asks_nobody(auth: ClientAuth) -> None:
    """It is a failure of ours that says which file, and the next question reads it again."""
    with FakeIdp() as idp:
        failed = refuse(make_source(endpoint_of(idp), auth))
        assert (failed.result, idp.seen) == ("misconfigured", [])
        assert "/nowhere/" in str(failed)


@pytest.mark.parametrize("text", ["", "garbage", "{}", '{"kty":"oct","k":"AA"}'])
def test_a_file_without_a_usable_key_is_named_and_not_quoted(text: str, tmp_path: Path) -> None:
    """Whatever it holds."""
    (tmp_path / "key").write_text(text)
    with pytest.raises(RefreshError) as failed:
        PrivateKeyJwt("rs", str(tmp_path / "key"), "aud").credentials()
    assert failed.value.result is Refresh.MISCONFIGURED
    assert "garbage" not in str(failed.value)


def answer_as(sample: Mapping[str, object]) -> Callable[[Request], Response]:
    """Answer as a server of the samples did."""
    headers = tuple((name, str(value)) for name, value in dict(sample["headers"]).items())  # type: ignore[call-overload]
    return lambda _: Response(int(str(sample["status"])), headers, str(sample["body"]).encode())


EXPECTED = {
    "opaque user token, basic": "active",
    "client_credentials no resource": "active",
    "refresh token": "active",  # the decision refuses it: it is not proved to be an access token
    "grant revoked": "inactive",
    "garbage": "inactive",
    "expired": "inactive",
    "client_credentials JWT with resource": "refused",  # 400 unsupported_token_type
    "wrong secret": "unauthorized",
    "unknown client": "unauthorized",
    "no auth": "bad_request",  # 400 without any word for our credentials
    "odd creds raw": "bad_request",
    "chunky 100 KiB token": "bad_request",
    "GET": "status",
    "reference token": "active",
    "revoked": "inactive",
    "no auth, accept html": "redirect_refused",  # Spring: to /login
    "3 MiB token": "refused",  # 413
}


@pytest.mark.parametrize(
    ("server", "tag"),
    [(server, tag) for server, rows in SAMPLES.items() for tag in rows if tag in EXPECTED],
)
def test_answers_of_real_servers(server: str, tag: str) -> None:
    """Each is an answer about the token, or a failure that is not held against it."""
    expected = "unauthorized" if (server, tag) == ("Spring Authorization Server 7", "no auth") else EXPECTED[tag]
    expected = "redirect_refused" if (server, tag) == ("Spring Authorization Server 7", "GET") else expected
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = answer_as(SAMPLES[server][tag])
        try:
            found = make_source(endpoint_of(idp), NoAuth())(about()).result
        except SourceError as error:
            found = error.result
    assert found == expected


def test_a_400_is_about_the_token_once_the_server_has_answered_us() -> None:
    """Before, it may be our credentials: "try again", and no breaker opens, for any client can cause it."""
    clock = FakeClock()
    with FakeIdp() as idp:
        source = make_source(endpoint_of(idp), NoAuth(), monotonic=clock.monotonic)
        idp.answers[INTROSPECT] = fail(400)
        failed = refuse(source)
        assert (failed.result, failed.counts) == ("bad_request", False)
        idp.answers[INTROSPECT] = lambda _: json_response({"active": False})
        source(about("another"))
        idp.answers[INTROSPECT] = answer_as(SAMPLES["oidc-provider 9.13.3"]["chunky 100 KiB token"])
        fact = source(about())
        assert isinstance(fact.value, IntrospectionResponse)
        assert fact.value.members == {"active": False}
        assert fact.value.note == "the issuer rejects the introspection of the token: HTTP status 400, invalid_request"
        clock.advance(HEALTHY_SECONDS)
        assert refuse(source).result == "bad_request"


def test_a_server_that_trips_over_a_token_is_asked_about_others() -> None:
    """It has answered a moment ago: who sends such tokens opens no breaker. One that is overloaded is left alone."""
    clock = FakeClock()
    with FakeIdp() as idp:
        source = make_source(endpoint_of(idp), NoAuth(), monotonic=clock.monotonic)
        idp.answers[INTROSPECT] = lambda _: json_response(ACTIVE)
        source(about("another"))
        for status, counts in ((500, False), (422, False), (503, True), (502, True), (429, True), (404, False)):
            idp.answers[INTROSPECT] = fail(status)
            failed = refuse(source)
            assert (failed.result, failed.counts, failed.responded) == ("status", counts, not counts)
        clock.advance(HEALTHY_SECONDS)
        for status in (401, 403, 404, 500):
            idp.answers[INTROSPECT] = fail(status)
            failed = refuse(source)
            assert (failed.counts, failed.responded) == (True, status != 401), status


FAULTS: dict[str, tuple[Responder, str]] = {
    "500": (fail(500), "status"),
    "503": (fail(503), "status"),
    "429": (fail(429), "status"),
    "401": (fail(401), "unauthorized"),
    "403": (fail(403), "unauthorized"),
    "204": (fail(204), "status"),
    "HTML": (html(), "unreadable"),
    "JSON as text": (say(b'{"active":true}', content_type="text/plain"), "unreadable"),
    "JSON without a type": (lambda _: Response(200, (), b'{"active":true}'), "unreadable"),
    "another JSON type": (say(b'{"active":true}', content_type="application/problem+json"), "unreadable"),
    "not JSON": (say(b"active"), "unreadable"),
    "a list": (say(b"[]"), "unreadable"),
    "nothing": (say(b""), "unreadable"),
    "active twice": (say(b'{"active":false,"active":true}'), "unreadable"),
    "active as text": (say(b'{"active":"true"}'), "unreadable"),
    "no active": (say(b"{}"), "unreadable"),
    "huge": (flood(2), "too_large"),
    "redirect": (redirect("http://elsewhere.test/login?token=a"), "redirect_refused"),
    "temporary redirect": (redirect("/other", status=307), "redirect_refused"),
}


@pytest.mark.parametrize(("answer", "expected"), FAULTS.values(), ids=FAULTS)
def test_faults_are_failures(answer: Responder, expected: str) -> None:
    """None is taken for an answer, in either direction; where a redirect leads no one goes."""
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = answer
        failed = refuse(make_source(endpoint_of(idp), NoAuth()))
        assert (failed.result, failed.counts) == (expected, True)
        assert [request.path for request in idp.seen] == [INTROSPECT]
        assert "XMQdFed_ds5t" not in str(failed)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
RAW = {
    "hangs up": (say_bytes(), "unreachable"),
    "reset in the middle": (say_bytes(HEAD, b'{"act'), "unreadable"),
    "no HTTP": (say_bytes(b"SSH-2.0-OpenSSH\r\n"), "unreachable"),
    "silent": (be_silent, "timeout"),
}


@pytest.mark.parametrize(("talk", "expected"), RAW.values(), ids=RAW)
def test_faults_below_http(talk: Callable[[socket.socket, Event], None], expected: str) -> None:
    """Refused, reset, silent: each ends by the deadline, as a failure."""
    with RawServer(talk) as server:
        timeout = SHORT if expected == "timeout" else HANG_SECONDS
        source = make_source(f"http://127.0.0.1:{server.port}/", NoAuth(), timeout=timeout)
        assert refuse(source).result == expected


def test_nobody_listens() -> None:
    """A refused connection is a failure at once."""
    with FakeIdp() as idp:
        url = endpoint_of(idp)
    assert refuse(make_source(url, NoAuth())).result == "unreachable"


def test_a_server_that_drips_gains_no_time() -> None:
    """A byte every moment renews no deadline: neither in the status line, nor at the last byte."""
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = idp.drip(seconds=SHORT / 4)
        assert refuse(make_source(endpoint_of(idp), NoAuth(), timeout=SHORT)).result == "timeout"


def test_a_connection_is_kept_and_reopened_silently() -> None:
    """Two questions, one connection; one that the server has closed meanwhile costs no answer."""
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = lambda _: json_response(ACTIVE)
        source = make_source(endpoint_of(idp), NoAuth())
        for token in ("1", "2"):
            assert source(about(token)).result == "active"
        idp.stop()
        assert refuse(source).result == "unreachable"
        idp.start()
        assert source(about("3")).result == "active"
        idp.stop()
        idp.start()  # while the connection is kept
        assert source(about("4")).result == "active"
        assert len(idp.seen) == 4


def test_a_kept_connection_that_ends_without_a_byte_is_replaced_once() -> None:
    """The server may have closed it at that very moment: what was asked is only a question, and is asked again."""
    good = HEAD + b'{"active":true}'
    served: SimpleQueue[int] = SimpleQueue()

    def talk(connection: socket.socket, over: Event) -> None:
        connection.recv(4096)
        served.put(1)
        connection.sendall(good)
        connection.recv(4096)  # the second question, unanswered

    with RawServer(talk) as server:
        source = make_source(f"http://127.0.0.1:{server.port}/", NoAuth())
        assert [source(about(str(number))).result for number in range(3)] == ["active"] * 3
    assert served.qsize() == 3


def test_how_long_answers_are_kept() -> None:
    """Active: the configured time, at most until `exp`. Inactive: seconds, and apart from the others."""
    rows = [
        (ACTIVE, 60.0, False),
        ({**ACTIVE, "exp": T + 7}, 7.0, False),
        ({**ACTIVE, "exp": T - 7}, 0.0, False),
        ({"active": True}, 60.0, False),
        ({"active": False}, 5.0, True),
    ]
    with FakeIdp() as idp:
        for document, keep, negative in rows:
            idp.answers[INTROSPECT] = lambda _, document=document: json_response(document)  # type: ignore[misc]
            fact = make_source(endpoint_of(idp), NoAuth())(about())
            assert (fact.ttl, fact.negative) == (keep, negative)


def signed_answer(said: object, typ: object = "token-introspection+jwt", **claims: object) -> bytes:
    """Sign an answer; no one verifies it here."""
    return SigningKey.create("ES256").sign({"token_introspection": said, **claims}, header={"typ": typ}).encode()


def test_signed_answers_are_asked_for_and_passed_on_as_they_are() -> None:
    """The decision verifies them. What they say only bounds how long they are kept."""
    rows: list[tuple[object, float, str]] = [
        ({"active": True, "exp": T + 7}, 7.0, "active"),
        ({"active": False}, 5.0, "inactive"),
        ({"active": "true"}, 5.0, "inactive"),
    ]
    for said, keep, word in rows:
        body = signed_answer(said, aud="rs")
        with FakeIdp() as idp:
            idp.answers[INTROSPECT] = say(body, content_type="application/token-introspection+jwt; charset=utf-8")
            fact = make_source(endpoint_of(idp), NoAuth(), signed_for="rs")(about())
            accept = {name.lower(): value for name, value in idp.seen[0].headers}["accept"]
        assert (fact.value, fact.ttl, fact.result) == (SignedIntrospectionResponse(body.decode()), keep, word)
        assert accept == "application/token-introspection+jwt"


SIGNED = "application/token-introspection+jwt"
UNUSABLE: dict[str, tuple[bytes, str]] = {
    "plain": (b'{"active":true}', "application/json"),  # Spring answers so, whatever is asked for
    "another media type": (signed_answer({"active": True}, aud="rs"), "application/jwt"),
    "garbage": (b"garbage", SIGNED),
    "no JSON": (b"a.b.c", SIGNED),
    "no ASCII": (b"\xff.b.c", SIGNED),
    "no members": (signed_answer("active", aud="rs"), SIGNED),
    "another typ": (signed_answer({"active": True}, typ="JWT", aud="rs"), SIGNED),
    "a typ that is no text": (signed_answer({"active": True}, typ=1, aud="rs"), SIGNED),
    "for another client": (signed_answer({"active": True}, aud=["another"]), SIGNED),
    "for no one": (signed_answer({"active": True}), SIGNED),
}


@pytest.mark.parametrize(("body", "media"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unsigned_answer_is_none_where_signed_ones_are_wanted(body: bytes, media: str) -> None:
    """The media type is exact, the form that of a JWT, and it is one for us: otherwise it is never cached."""
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = say(body, content_type=media)
        assert refuse(make_source(endpoint_of(idp), NoAuth(), signed_for="rs")).result == "unreadable"


def endpoint_by_discovery(idp: FakeIdp, clock: FakeClock) -> Endpoint:
    """Learn the URL from the discovery document, every 100 seconds."""
    return Endpoint(
        None,
        fetch=make_fetcher(idp.url, http=True).get,
        discovery_url=f"{idp.url}/.well-known/openid-configuration",
        issuer=idp.issuer,
        refresh_interval=100.0,
        monotonic=clock.monotonic,
    )


def test_the_endpoint_is_learned_from_discovery() -> None:
    """Asked again in time; while no good document comes, the known one serves."""
    clock = FakeClock()
    with FakeIdp() as idp:
        endpoint = endpoint_by_discovery(idp, clock)
        with pytest.raises(RefreshError) as failed:
            endpoint.locate()
        assert failed.value.result is Refresh.DISCOVERY_REJECTED
        assert "has no introspection_endpoint" in str(failed.value)
        idp.discovery["introspection_endpoint"] = endpoint_of(idp)
        assert endpoint.locate() == endpoint_of(idp)
        idp.discovery["introspection_endpoint"] = f"{idp.url}/moved"
        assert endpoint.locate() == endpoint_of(idp)
        clock.advance(100.0)
        assert endpoint.locate() == f"{idp.url}/moved"
        for bad in (fail(500), html(), say(b"{}")):
            clock.advance(100.0)
            idp.answers["/.well-known/openid-configuration"] = bad
            asked = len(idp.seen)
            assert [endpoint.locate() for _ in range(2)] == [f"{idp.url}/moved"] * 2
            assert len(idp.seen) == asked + 1


def test_a_document_that_does_not_come_stops_one_question_only() -> None:
    """The others go where it is known that they go, at once."""
    began, go_on, located, clock = Event(), Event(), SimpleQueue[str](), FakeClock()
    with FakeIdp() as idp:
        idp.discovery["introspection_endpoint"] = endpoint_of(idp)
        endpoint = endpoint_by_discovery(idp, clock)
        assert endpoint.locate() == endpoint_of(idp)

        def hang(_: Request) -> Response:
            began.set()
            assert go_on.wait(HANG_SECONDS)
            return json_response({}, status=500)

        idp.answers["/.well-known/openid-configuration"] = hang
        clock.advance(100.0)
        asking = [Thread(target=lambda: located.put(endpoint.locate())) for _ in range(2)]
        asking[0].start()
        assert began.wait(HANG_SECONDS)
        asking[1].start()
        assert located.get(timeout=HANG_SECONDS) == endpoint_of(idp)
        go_on.set()
        assert located.get(timeout=HANG_SECONDS) == endpoint_of(idp)


def test_credentials_go_to_configured_servers_only(tmp_path: Path) -> None:
    """A document alone does not decide who gets the secret, and the tokens of all clients."""
    with FakeIdp() as idp, FakeIdp() as other:
        idp.discovery["introspection_endpoint"] = endpoint_of(other)
        source = make_source(idp.url, secret(tmp_path), endpoint=endpoint_by_discovery(idp, FakeClock()))
        assert refuse(source).result == "untrusted"
        assert other.seen == []


def test_64_checks_with_one_new_token_ask_once(tmp_path: Path) -> None:
    """Single flight is the gatherer's; the lane answers all that follows from its cache."""
    answers: SimpleQueue[object | None] = SimpleQueue()
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = lambda _: json_response(ACTIVE)
        bounds = Bounds(max_concurrent=4, max_waiting=64, max_wait=1.0, burst=64, refill=1.0)
        source = make_source(endpoint_of(idp), secret(tmp_path))
        lane = SourceLane("introspection of a", source, bounds=bounds, monotonic=lambda: 0.0)
        lane.ask(about(), answers.put)
        assert isinstance(answers.get(timeout=HANG_SECONDS), IntrospectionResponse)
        assert all(isinstance(lane.find(about()), IntrospectionResponse) for _ in range(64))
        lane.stop()
        assert len(idp.seen) == 1


def test_an_error_is_never_cached(tmp_path: Path) -> None:
    """The next question asks again, and finds what is then."""
    answers: SimpleQueue[object | None] = SimpleQueue()
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = fail(500)
        bounds = Bounds(max_concurrent=1, max_waiting=64, max_wait=1.0, burst=64, refill=1.0)
        source = make_source(endpoint_of(idp), secret(tmp_path))
        lane = SourceLane("introspection of a", source, bounds=bounds, monotonic=lambda: 0.0)
        lane.ask(about(), answers.put)
        assert answers.get(timeout=HANG_SECONDS) == Unanswered("HTTP status 500")
        idp.answers[INTROSPECT] = lambda _: json_response(ACTIVE)
        lane.ask(about(), answers.put)
        assert isinstance(answers.get(timeout=HANG_SECONDS), IntrospectionResponse)
        lane.stop()
