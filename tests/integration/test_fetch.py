"""Proves one fetch over real sockets: deadlines, caps, redirects, credentials, addresses."""

from __future__ import annotations

import gzip
import socket
import threading
import tracemalloc
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from authz.demo.loopback import RawResponse, Response
from authz.feeds.failure import RefreshError
from authz.feeds.http.fetch import Fetcher
from authz.telemetry.keys import Refresh
from tests.fakes.idp import JWKS, FakeIdp, fail, flood, redirect
from tests.fakes.raw import RawServer, be_silent, drip, say
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.fetching import HERE, SHORT, make_fetcher, refuse, result

NAMED = "http://idp.test"


def url_of(idp: FakeIdp, host: str = "idp.test", path: str = JWKS) -> str:
    """The URL of a path at a fake provider, under a name."""
    return f"http://{host}:{idp.url.rpartition(':')[2]}{path}"


def plain(idp: FakeIdp, *, timeout: float = HANG_SECONDS, max_bytes: int = 262_144) -> Fetcher:
    """A fetcher for a provider without TLS, which the operator allowed."""
    return make_fetcher(url_of(idp), http=True, timeout=timeout, max_bytes=max_bytes)


def test_document_comes_with_its_headers() -> None:
    """The good case, with names of headers in lower case."""
    with FakeIdp() as idp:
        idp.cache_control = "max-age=60"
        answer = plain(idp).get(url_of(idp), {"if-none-match": '"1"'})
        assert (answer.status, answer.headers["cache-control"]) == (200, "max-age=60")
        assert b'"keys"' in answer.body
        (request,) = idp.seen
        sent = {name.lower(): value for name, value in request.headers}
        assert sent["host"] == f"idp.test:{idp.url.rpartition(':')[2]}"
        assert sent["if-none-match"] == '"1"'
        assert "authorization" not in sent


def test_two_lines_of_cache_control_are_one_list() -> None:
    """What a proxy before the issuer adds does not hide what the issuer said (RFC 9110 section 5.3)."""
    with FakeIdp() as idp:
        lines = (("Cache-Control", "max-age=60"), ("Age", "10"), ("cache-control", "public"), ("Age", "50"))
        idp.answers[JWKS] = lambda _: Response(200, lines, b"{}")
        headers = plain(idp).get(url_of(idp), {}).headers
        assert (headers["cache-control"], headers["age"]) == ("max-age=60, public", "10")


def test_not_modified_is_an_answer() -> None:
    """304 is good news, without a body."""
    with FakeIdp() as idp:
        idp.answers[JWKS] = lambda _: Response(304)
        assert plain(idp).get(url_of(idp), {"if-none-match": "x"}).status == 304


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_silence_ends_at_the_deadline(scheme: str) -> None:
    """E02: a server that takes the connection and never answers, to a handshake or a request; the thread ends too."""
    with RawServer(be_silent) as server:
        url = f"{scheme}://idp.test:{server.port}/"
        fetcher = make_fetcher(url, http=True, timeout=SHORT)
        assert result(fetcher, url) is Refresh.TIMEOUT
        wait_until(lambda: fetcher._abandoned_thread is None or not fetcher._abandoned_thread.is_alive())


DRIPS = {
    "status line": b"HTTP/1.1 200 " + b"O" * 1000,
    "headers": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 50,
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000,
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "handshake": b"\x16\x03\x03\x40\x00" + bytes(1000),
}


@pytest.mark.parametrize("what", DRIPS)
def test_drip_ends_at_the_deadline(what: str) -> None:
    """E03: one byte at a time is no way around the deadline, in no stage; the thread ends too."""
    pieces = tuple(DRIPS[what][index : index + 1] for index in range(len(DRIPS[what])))
    with RawServer(drip(pieces, seconds=0.02)) as server:
        url = f"{'https' if what == 'handshake' else 'http'}://idp.test:{server.port}/"
        fetcher = make_fetcher(url, http=True, timeout=SHORT)
        assert result(fetcher, url) in {Refresh.TIMEOUT, Refresh.TLS}
        wait_until(lambda: fetcher._abandoned_thread is None or not fetcher._abandoned_thread.is_alive())


def test_name_resolution_that_hangs_is_abandoned_thread_once() -> None:
    """The deadline holds for the resolver; while its thread hangs no other is started, and when it ends all is well."""
    answer = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        answer.wait()
        return [HERE]

    with FakeIdp() as idp:
        fetcher = make_fetcher(url_of(idp), http=True, timeout=SHORT, resolve=hang)
        assert result(fetcher, url_of(idp)) is Refresh.TIMEOUT
        assert "still hangs" in str(refuse(fetcher, url_of(idp)))
        assert [thread for thread in threading.enumerate() if thread.name == "fetch"] == [fetcher._abandoned_thread]
        answer.set()
        wait_until(lambda: fetcher._abandoned_thread is not None and not fetcher._abandoned_thread.is_alive())
        assert idp.seen == []  # what was given up is not done later
        wait_until(lambda: fetches(fetcher, url_of(idp)))


def fetches(fetcher: Fetcher, url: str) -> bool:
    """Whether a fetch comes back in its short time."""
    try:
        return fetcher.get(url, {}).status == 200
    except RefreshError:
        return False


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused(status: int, tmp_path: Path) -> None:
    """E04: nothing is followed, to no place, and no credentials go there."""
    token = tmp_path / "token"
    token.write_text("secret\n")
    with FakeIdp() as idp, FakeIdp() as other:
        for target in (other.url + JWKS, url_of(idp, path="/moved"), "http://169.254.169.254/latest/", "//x", ""):
            idp.answers[JWKS] = redirect(target, status=status)
            fetcher = make_fetcher(url_of(idp), http=True, bearer_token_file=token)
            assert result(fetcher, url_of(idp)) is Refresh.REDIRECT_REFUSED
        assert other.seen == []
        assert {request.path for request in idp.seen} == {JWKS}


LOCATIONS = {
    "https://login.test/new/keys": " to https://login.test/new/keys;",
    "/moved?code=s3cret": " to http://idp.test:PORT/moved?...;",
    "https://user:s3cret@login.test/keys#s3cret": " to https://login.test/keys;",
    "https://login.test/\x1b[31m": " to https://login.test/\\x1b[31m;",
    "https://login.test/" + "x" * 3000: "xxx...;",
    "https://[login.test/": " to an invalid URL;",
    "": "HTTP status 302; redirects",
}


@pytest.mark.parametrize("location", LOCATIONS)
def test_redirect_is_told_without_what_may_be_secret(location: str) -> None:
    """The message says where the redirect led, so that it can be configured; user, query and fragment are left out."""
    with FakeIdp() as idp:
        idp.answers[JWKS] = redirect(location, status=302)
        said = str(refuse(plain(idp), url_of(idp)))
        assert LOCATIONS[location].replace("PORT", idp.url.rpartition(":")[2]) in said
        assert said.endswith("redirects are not followed")
        assert "s3cret" not in said
        assert said.isprintable()
        assert len(said) < 500


@pytest.mark.parametrize("status", [201, 204, 206, 400, 401, 403, 404, 418, 500, 502, 504])
def test_other_statuses_are_failures(status: int) -> None:
    """Only 200 and 304 bring keys, whatever the body."""
    with FakeIdp() as idp:
        idp.answers[JWKS] = lambda request: Response(status, (("Retry-After", "9"),), b'{"keys": []}')
        failed = refuse(plain(idp), url_of(idp))
        assert (failed.result, failed.retry_after) == (Refresh.STATUS, None)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heard(status: int) -> None:
    """A server that asks to be left alone is heard."""
    with FakeIdp() as idp:
        idp.answers[JWKS] = fail(status, ("Retry-After", "120"))
        assert refuse(plain(idp), url_of(idp)).retry_after == 120


def test_body_is_capped() -> None:
    """A body beyond the cap is given up while it comes."""
    with FakeIdp() as idp:
        idp.answers[JWKS] = flood(64)
        assert result(plain(idp), url_of(idp)) is Refresh.TOO_LARGE


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_compression_bomb_is_capped(encoding: str) -> None:
    """The cap counts decoded bytes, and what is beyond it is never in memory."""
    body = gzip.compress(bytes(100_000_000), compresslevel=9)
    if "," in encoding:
        body = gzip.compress(body)
    with FakeIdp() as idp:
        idp.answers[JWKS] = lambda _: Response(200, (("Content-Encoding", encoding),), body)
        tracemalloc.start()
        try:
            assert result(plain(idp), url_of(idp)) is Refresh.TOO_LARGE
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


BROKEN = {
    "no HTTP": b"\x00\x01\x02\x1b[31m\r\n\r\n",
    "truncated": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort",
    "long header": b"HTTP/1.1 200 OK\r\nx-a: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 10_000 + b"\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    "nothing": b"",
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_answers_are_failures(what: str) -> None:
    """What is no HTTP, or ends too early, is a failure; none of it is repeated unescaped."""
    with RawServer(say(BROKEN[what])) as server:
        url = f"http://idp.test:{server.port}/"
        failed = refuse(make_fetcher(url, http=True), url)
        assert failed.result is Refresh.UNREACHABLE
        assert str(failed).isprintable()
        assert len(str(failed)) < 500


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a proxy that is written in the configuration is used."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with FakeIdp() as idp:
        assert plain(idp).get(url_of(idp), {}).status == 200


def test_token_goes_to_the_written_origins_only(tmp_path: Path) -> None:
    """A host or port that only discovery names never gets it; it is read again each time."""
    token = tmp_path / "token"
    token.write_text("first\n")
    with FakeIdp() as idp, FakeIdp() as other:
        listed = frozenset({"cdn.test", urlsplit(url_of(other)).netloc})
        fetcher = make_fetcher(
            url_of(idp), http=True, bearer_token_file=token, allowed_hosts=listed, networks=["127.0.0.0/8"]
        )
        fetcher.get(url_of(idp), {})
        token.write_text("second")
        fetcher.get(url_of(idp), {})
        fetcher.get(url_of(other), {})
        fetcher.get(url_of(other, host="cdn.test"), {})
        sent = [dict(request.headers).get("authorization") for request in (*idp.seen, *other.seen)]
        assert sent == ["Bearer first", "Bearer second", None, None]


@pytest.mark.parametrize("content", [b"se\ncret", b"se\r\nx-evil: cret", b"", b"s\xc3\xa9cret", b"two secrets"])
def test_broken_token_file_is_not_repeated(content: bytes, tmp_path: Path) -> None:
    """A file that does not contain exactly one token is a failure that shows nothing of it, and nothing is sent."""
    token = tmp_path / "token"
    token.write_bytes(content)
    with FakeIdp() as idp:
        failed = refuse(make_fetcher(url_of(idp), http=True, bearer_token_file=token), url_of(idp))
        assert failed.result is Refresh.MISCONFIGURED
        assert "cret" not in str(failed)
        assert idp.seen == []


def test_missing_files_are_named(tmp_path: Path) -> None:
    """The error names the file that cannot be read."""
    with FakeIdp() as idp:
        missing = make_fetcher(url_of(idp), http=True, bearer_token_file=tmp_path / "token")
        assert str(tmp_path / "token") in str(refuse(missing, url_of(idp)))
    secure = "https://idp.test:1/"
    assert str(tmp_path / "ca") in str(refuse(make_fetcher(secure, ca_file=tmp_path / "ca"), secure))


@pytest.mark.parametrize("later", ["127.0.0.2", "::ffff:169.254.169.254", "10.0.0.1", "169.254.169.254", "::1"])
def test_addresses_are_judged_at_each_connection(later: str) -> None:
    """E06: a name that resolved well before is evaluated again, and nothing is connected to."""
    answers = [[HERE], [later], [HERE, later]]
    with FakeIdp() as idp:
        url = url_of(idp, host="cdn.test")
        fetcher = make_fetcher(
            NAMED, http=True, allowed_hosts=frozenset({"cdn.test"}), networks=[HERE], resolve=lambda *_: answers.pop(0)
        )
        assert fetcher.get(url, {}).status == 200
        assert result(fetcher, url) is Refresh.UNTRUSTED
        assert result(fetcher, url) is Refresh.UNTRUSTED
        assert len(idp.seen) == 1


def test_next_address_is_tried() -> None:
    """A server with a dead address is reached by its other one, within the same deadline."""
    with FakeIdp() as idp:
        fetcher = make_fetcher(url_of(idp), http=True, resolve=lambda *_: ["127.0.0.2", "::1", "127.0.0.1"])
        idp.answers["/only-here"] = lambda _: RawResponse((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",))
        assert fetcher.get(url_of(idp, path="/only-here"), {}).status == 200


def test_no_address_is_a_failure() -> None:
    """A name without an address."""
    assert result(make_fetcher(NAMED, http=True, resolve=lambda *_: []), NAMED) is Refresh.UNREACHABLE


def test_ipv6_literal() -> None:
    """An IPv6 address in brackets is connected to as it stands."""
    if not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    with RawServer(say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), host="::1") as server:
        url = f"http://[::1]:{server.port}/keys"
        assert make_fetcher(url, http=True, resolve=lambda host, _: [host]).get(url, {}).body == b"{}"
        assert f"host: [::1]:{server.port}".encode() in server.heard[0].lower()
