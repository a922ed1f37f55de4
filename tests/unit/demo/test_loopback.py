"""The embedded HTTP server, over real sockets."""

from __future__ import annotations

import http.client
import socket
import ssl

import pytest
import trustme

from authz.demo.client import send
from authz.demo.loopback import LoopbackServer, RawResponse, Request, Response, json_response
from tests.fakes.tls import server_context
from tests.fakes.waiting import HANG_SECONDS, wait_until


def show(request: Request) -> Response:
    """Answer with what was understood of the request."""
    return json_response([request.method, request.target, request.headers, request.body.decode()])


def test_a_request_arrives_as_it_was_spelled() -> None:
    """Path, duplicate headers, odd names and body reach the function unchanged."""
    headers = [("Host", "h"), ("X_A", "1"), ("x_a", "2")]
    with LoopbackServer(show) as server:
        answer = send(f"{server.url}/a/../b//%2F?c=d", method="POST", headers=headers, body=b"body")

    assert answer.status == 200
    assert answer.json() == [
        "POST",
        "/a/../b//%2F?c=d",
        [["Host", "h"], ["X_A", "1"], ["x_a", "2"], ["Content-Length", "4"]],
        "body",
    ]


def test_parameters_come_from_query_and_form() -> None:
    """Query and form body are read alike, and blanks are kept."""
    request = Request("POST", "/token?a=1&b=", (), b"c=x%20y")

    assert request.path == "/token"
    assert request.parameters == {"a": "1", "b": "", "c": "x y"}


def test_one_connection_serves_many_requests() -> None:
    """A kept-alive connection, such as Envoy's, is answered again and again."""
    with LoopbackServer(show) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        for number in range(3):
            connection.request("GET", f"/{number}")
            assert connection.getresponse().read().startswith(b'[\n  "GET"')
        connection.close()


def test_stopping_closes_connections_that_are_open() -> None:
    """A peer that keeps its connection alive is not served after the server stopped."""
    server = LoopbackServer(show).start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=HANG_SECONDS) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"

        server.stop()

        while connection.recv(4096):
            pass  # what was answered before; the end of the stream is the proof
    with pytest.raises(ConnectionRefusedError):
        send(server.url)


def test_a_body_in_pieces_ends_with_the_connection() -> None:
    """A body of unknown length is streamed and ended by closing."""
    with LoopbackServer(lambda _: Response(200, (), iter([b"a", b"b"]))) as server:
        answer = send(server.url)

    assert (answer.body, answer.header("connection")) == (b"ab", "close")


def test_raw_bytes_are_put_on_the_wire_untouched() -> None:
    """A server that misbehaves can say what no HTTP library would."""
    with (
        LoopbackServer(lambda _: RawResponse([b"SMTP ", b"hello\r\n"])) as server,
        pytest.raises(http.client.BadStatusLine),
    ):
        send(server.url)


def test_a_head_request_gets_no_body() -> None:
    """HEAD is answered with the length and without the body."""
    with LoopbackServer(lambda _: Response(200, (), b"body")) as server:
        answer = send(server.url, method="HEAD")

    assert (answer.body, answer.header("content-length")) == (b"", "4")


def test_a_chunked_body_is_not_taken_for_the_next_request() -> None:
    """A body that we do not read costs the connection."""
    smuggled = b"GET /smuggled HTTP/1.1\r\n\r\n"
    with (
        LoopbackServer(show) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=HANG_SECONDS) as connection,
    ):
        head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled))
        received = b""
        try:
            while piece := connection.recv(4096):
                received += piece
        except ConnectionResetError:
            pass  # the unread bytes make the kernel reset instead of close

    assert received.count(b"HTTP/1.1") == 1
    assert received.endswith(b"]\n")


def test_tls_is_spoken_where_a_context_is_given() -> None:
    """With a certificate the server speaks HTTPS, and a client that trusts another CA is refused."""
    ca = trustme.CA()
    trusting = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    ca.configure_trust(trusting)
    with LoopbackServer(show, tls=server_context(ca)) as server:
        assert send(server.url, tls=trusting).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            send(server.url, tls=ssl.create_default_context())


def test_a_fault_of_the_answering_function_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug behind the server is printed, and not only seen as a closed connection."""

    def broken(_: Request) -> Response:
        raise ZeroDivisionError

    with LoopbackServer(broken) as server:
        with pytest.raises(http.client.RemoteDisconnected):
            send(server.url)
        wait_until(lambda: "ZeroDivisionError" in capsys.readouterr().err)
