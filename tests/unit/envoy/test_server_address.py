"""Proves authz.envoy.server at its border: an address is no one else's, and only who is vouched for is answered."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from tests.fixtures import ask, mint
from tests.unit.envoy.asking import told, write_check
from tests.unit.envoy.serving import SECONDS, code_of, make_server, method, short_folder

GOOD = write_check(ask(mint()))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as path:
        yield path


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    """What a killed process left behind is no obstacle."""
    path = folder / "authz.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    server = make_server()
    server.listen_unix(path, mode=0o660)
    server.start()
    try:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert told(method(channel)(GOOD, timeout=SECONDS)) == "authenticated"
    finally:
        server.stop(grace=0)


def test_a_live_socket_is_not_stolen(folder: Path) -> None:
    """A second server on the same path fails, and the first one continues to serve."""
    path = folder / "authz.sock"
    first = make_server()
    first.listen_unix(path, mode=0o660)
    first.start()
    try:
        with pytest.raises(OSError, match=f"another process serves {path}"):
            make_server().listen_unix(path, mode=0o660)
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert told(method(channel)(GOOD, timeout=SECONDS)) == "authenticated"
    finally:
        first.stop(grace=0)


def test_a_file_is_not_replaced(folder: Path) -> None:
    """A path that names a regular file is a mistake, and the file stays."""
    path = folder / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(OSError, match=r"notes\.txt exists and is not a socket"):
        make_server().listen_unix(path, mode=0o660)
    assert path.read_text() == "keep me"


def test_a_missing_folder_is_named(folder: Path) -> None:
    """The message says where, and what to look at."""
    with pytest.raises(OSError, match=r"authz\.sock: there is no directory .*/nowhere: create it"):
        make_server().listen_unix(folder / "nowhere/authz.sock", mode=0o660)


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
def test_the_socket_has_the_permissions_that_were_asked_for(folder: Path, mode: int) -> None:
    """No more than the mode, and the process's own umask is what it was."""
    before = os.umask(0o022)
    try:
        server = make_server()
        server.listen_unix(folder / "s", mode=mode)
        assert stat.S_IMODE((folder / "s").stat().st_mode) == mode
        assert os.umask(0o022) == 0o022
        server.stop(grace=0)
    finally:
        os.umask(before)


def test_a_port_that_is_taken_is_named() -> None:
    """Two servers never share a port; the message names the address."""
    first, second = make_server(), make_server()
    port = first.listen_tcp("127.0.0.1:0", credentials=None)
    try:
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*in use"):
            second.listen_tcp(f"127.0.0.1:{port}", credentials=None)
    finally:
        first.stop(grace=0)
        second.stop(grace=0)


def test_an_address_of_another_machine_is_named() -> None:
    """What the system has against an address is said, and is not taken for a port in use."""
    server = make_server()
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:9191: .*assign"):  # RFC 5737: no one's
        server.listen_tcp("192.0.2.1:9191", credentials=None)
    server.stop(grace=0)


# TLS.


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Who vouches for server and clients."""
    return trustme.CA()


@pytest.fixture(params=[True, False], ids=["mtls", "tls"])
def secured(request: pytest.FixtureRequest, ca: trustme.CA) -> Iterator[tuple[str, bool]]:
    """A server with TLS, with or without client certificates; its address, and which it is."""
    leaf = ca.issue_cert("127.0.0.1")
    pair = (leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())
    clients = ca.cert_pem.bytes() if request.param else None
    credentials = grpc.ssl_server_credentials([pair], root_certificates=clients, require_client_auth=request.param)
    server = make_server()
    port = server.listen_tcp("127.0.0.1:0", credentials=credentials)
    server.start()
    yield f"127.0.0.1:{port}", request.param
    server.stop(grace=0)


def client(roots: trustme.CA, own: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    """Credentials of a client that trusts *roots* and may show a certificate of its *own*."""
    if own is None:
        return grpc.ssl_channel_credentials(roots.cert_pem.bytes())
    chain, key = own.cert_chain_pems[0].bytes(), own.private_key_pem.bytes()
    return grpc.ssl_channel_credentials(roots.cert_pem.bytes(), key, chain)


def outcome(address: str, credentials: grpc.ChannelCredentials | None) -> str:
    """Make one call; return its reason, or the word of a failure."""
    opened = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with opened as channel:
        try:
            return str(told(method(channel)(GOOD, timeout=SECONDS)))
        except grpc.RpcError as error:
            return code_of(error).name


def test_only_who_is_vouched_for_is_answered(secured: tuple[str, bool], ca: trustme.CA) -> None:
    """With a client CA, a caller without a certificate, or with one of another CA, or in plain text, gets nothing."""
    address, mutual = secured
    stranger = trustme.CA()

    assert outcome(address, client(ca, ca.issue_cert("envoy.test"))) == "authenticated"
    assert outcome(address, client(ca)) == ("UNAVAILABLE" if mutual else "authenticated")
    if mutual:
        assert outcome(address, client(ca, stranger.issue_cert("envoy.test"))) == "UNAVAILABLE"
    assert outcome(address, client(stranger)) == "UNAVAILABLE"
    assert outcome(address, None) == "UNAVAILABLE"
