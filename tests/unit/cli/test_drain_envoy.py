"""Proves `authz drain-envoy` without an Envoy: what it takes for the end of one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from click.testing import CliRunner

from authz.cli import main

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@contextmanager
def admin(*answers: bytes | None) -> Iterator[str]:
    """An admin interface that gives these answers, None is none at all, and then closes its port."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                kept.append(connection)
                if answer is not None:
                    connection.recv(65_536)
                    connection.sendall(answer)
                    connection.close()
            server.close()

        thread = Thread(target=serve)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        thread.start()
        yield address
        thread.join()
    for connection in kept:
        connection.close()


def test_it_waits_until_the_port_is_closed() -> None:
    """Envoy is asked to drain, is still there, and ends."""
    with admin(OK, OK) as address:
        assert CliRunner().invoke(main, ["drain-envoy", address, "--wait", "300"]).exit_code == 0


def test_an_envoy_that_is_too_busy_to_answer_has_not_ended() -> None:
    """Otherwise the pod would end while its requests are in flight."""
    with admin(OK, None) as address:
        result = CliRunner().invoke(main, ["drain-envoy", address, "--wait", "0.2"])
        assert result.exit_code == 1
        assert "has not ended after 0.2 s" in result.output


@pytest.mark.parametrize("address", ["9901", ":9901", "localhost:admin"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    """As Envoy's admin.address."""
    result = CliRunner().invoke(main, ["drain-envoy", address])
    assert (result.exit_code, "write host:port" in result.output) == (2, True)
