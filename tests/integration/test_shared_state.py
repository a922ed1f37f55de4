"""Proves authz.feeds.shared against Debian's redis-server: what it keeps, and that every failure is one of ours."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from authz.config.shared_state import SharedState as SharedStateSection
from authz.feeds.shared.connect import open_shared_state
from authz.feeds.shared.state import SharedStateError
from authz.feeds.shared.valkey_client import MAX_REPLY_BYTES
from authz.tooling.shared_state_probe import probe_shared_state
from tests.fakes.redis_server import PASSWORD, PATIENT, redis_server

pytestmark = pytest.mark.needs("redis-server")

BRIEF = "50ms"


def section_of(url: str, timeout: str = PATIENT) -> SharedStateSection:
    """Return the section for a server of the test itself."""
    return SharedStateSection.model_validate({"url": url, "timeout": timeout})


def failure_of(section: SharedStateSection, *command: str) -> SharedStateError:
    """Return how a command fails."""
    with closing(open_shared_state(section)) as state, pytest.raises(SharedStateError) as caught:
        state.execute(*(command or ("PING",)))
    return caught.value


@pytest.mark.parametrize("tls", [False, True])
def test_a_key_is_created_once_by_one_of_many(tmp_path: Path, *, tls: bool) -> None:
    """Of many threads with a client each, plain or by TLS with certificate, user and password, one creates a key."""
    with redis_server(tmp_path, tls=tls) as server:
        clients = [server.client() for _ in range(4)]
        with ThreadPoolExecutor(8) as pool:
            created = list(pool.map(lambda number: clients[number % 4].create("once", milliseconds=60_000), range(32)))
        assert created.count(True) == 1
        left = clients[0].execute("PTTL", "once")
        assert isinstance(left, int)
        assert 0 < left <= 60_000
        for client in clients:
            client.close()


def test_several_commands_are_one_round_trip_and_one_may_fail(tmp_path: Path) -> None:
    """The commands behind a refused one are executed, and the replies of the next call are its own."""
    with redis_server(tmp_path) as server, closing(server.client()) as state:
        assert state.key("a", "b") == "authz:a:b"
        assert state.execute_all([("SET", "n", 1), ("INCR", "n"), ("GET", "none")]) == [b"OK", 2, None]
        assert state.execute_all([]) == []
        with pytest.raises(SharedStateError, match="WRONGTYPE") as caught:
            state.execute_all([("LPUSH", "n", "x"), ("INCR", "n")])
        assert caught.value.result == "rejected"
        assert state.execute("GET", "n") == b"3"


def test_a_command_that_blocks_on_purpose_is_waited_for(tmp_path: Path) -> None:
    """`blocks_for` is added to the timeout: a stream that stays empty is an answer, not a failure."""
    with (
        redis_server(tmp_path, timeout="1s") as server,
        closing(open_shared_state(server.section, blocks_for=30.0)) as state,
    ):
        assert state.execute("XREAD", "BLOCK", 1100, "STREAMS", "events", "$") is None


def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    """While it is away every command fails as unreachable; then the same client works, without a restart."""
    with redis_server(tmp_path) as server, closing(server.client()) as state:
        assert state.create("before", milliseconds=60_000)
        server.process.kill()
        with pytest.raises(SharedStateError) as caught:
            state.create("meanwhile", milliseconds=60_000)
        assert caught.value.result == "unreachable"
        server.process.start()
        server.await_ready()
        assert state.create("after", milliseconds=60_000)


def test_a_silent_server_is_left_after_the_timeout() -> None:
    """A server that accepts the connection and never answers costs its timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        error = failure_of(section_of(f"redis://127.0.0.1:{port}", BRIEF))
    assert error.result == "timeout"
    assert f"127.0.0.1:{port}" in str(error)


def test_a_reply_without_end_is_left_after_the_timeout() -> None:
    """However often an octet comes."""

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(1000)
            connection.sendall(b"$1000000\r\n")
            while not ended.wait(0.01):
                connection.sendall(b"x")

    ended = Event()
    with _server_of(trickle) as section:
        try:
            error = failure_of(section.model_copy(update={"timeout": timedelta(milliseconds=300)}))
        finally:
            ended.set()
    assert error.result == "timeout"


def test_a_reply_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    """It fails alone: what others write to the server does not fill our memory, and the next command is served."""
    with redis_server(tmp_path) as server, closing(server.client()) as state:
        state.execute("SETRANGE", "long", MAX_REPLY_BYTES, "x")
        with pytest.raises(SharedStateError, match=f"a reply has more than {MAX_REPLY_BYTES} octets") as caught:
            state.execute("GET", "long")
        assert caught.value.result == "unreadable"
        assert state.execute("PING") == b"PONG"


def _answer(reply: bytes, listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(reply)


@contextmanager
def _server_of(answer: Callable[[socket.socket], None]) -> Iterator[SharedStateSection]:
    """Accept connections in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=answer, args=(listener,))
        thread.start()
        yield section_of(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unreadable"),
        (b"-MOVED 3999 10.0.0.1:6379\r\n", "rejected"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "rejected"),
        (b"-LOADING the dataset is in memory\r\n", "unreachable"),
        (b"-NOAUTH Authentication required.\r\n", "unauthorized"),
        (b"", "unreachable"),
        (b"$many\r\n", "unreadable"),
        (b":one\r\n", "unreadable"),
        (b"*1\r\n" * 5000, "unreadable"),
    ],
)
def test_every_reply_that_is_no_answer_is_a_failure_of_ours(reply: bytes, result: str) -> None:
    """A web server, a cluster, a full, a loading and a locked server, one that hangs up, and what no parser expects."""
    with _server_of(partial(_answer, reply)) as section:
        assert failure_of(section).result == result


def test_a_lost_reply_does_not_make_a_first_use_a_second_one(tmp_path: Path) -> None:
    """The connection breaks after the server executed the command: the same call still says that the key is ours."""
    with redis_server(tmp_path) as server:
        host, _, port = server.section.url.removeprefix("redis://").partition(":")

        def lose_the_first_reply(listener: socket.socket) -> None:
            for loses in (True, False):
                near, _ = listener.accept()
                with near, socket.create_connection((host, int(port))) as far:
                    while data := near.recv(1000):
                        far.sendall(data)
                        reply = far.recv(1000)
                        if loses:
                            break
                        near.sendall(reply)

        with _server_of(lose_the_first_reply) as section, closing(open_shared_state(section)) as state:
            assert state.create("key", milliseconds=60_000)
            assert not state.create("key", milliseconds=60_000)


def test_what_is_wrong_with_our_own_files_is_said_without_their_content(tmp_path: Path) -> None:
    """A wrong password, a missing one, a foreign authority: results of their own, and no secret in any text."""
    with redis_server(tmp_path, tls=True) as server:
        section = server.section
        other = tmp_path / "other"
        other.mkdir()
        (other / "password").write_text("of-another-store")
        wrong = section.model_copy(update={"password_file": str(other / "password")})
        missing = section.model_copy(update={"password_file": str(other / "none")})
        foreign = section.model_copy(update={"ca_file": str(tmp_path / "client.pem")})
        without = section.model_copy(update={"client_cert_file": None})
        plain = section_of(section.url.replace("rediss", "redis"))
        errors = [failure_of(each) for each in (wrong, missing, foreign, without, plain)]
        assert [error.result for error in errors[:3]] == ["unauthorized", "misconfigured", "tls"]
        assert errors[3].result in {"tls", "unreachable"}  # TLS 1.3: the server complains after the handshake
        assert errors[4].result in {"unreachable", "unreadable"}
        assert "shared_state.password_file" in str(errors[1])
        with closing(server.client()) as state:
            shown = [repr(state), repr(vars(state)), *map(str, errors)]
        assert not any(secret in text for text in shown for secret in (PASSWORD, "of-another-store"))


def test_a_host_of_another_name_is_refused(tmp_path: Path) -> None:
    """The certificate must be for the name in the URL."""
    with redis_server(tmp_path, tls=True) as server:
        error = failure_of(
            server.section.model_copy(update={"url": server.section.url.replace("127.0.0.1", "localhost")})
        )
    assert error.result == "tls"


def test_check_config_asks_the_server(tmp_path: Path) -> None:
    """It answers, we may write below the prefix; a server that may evict keys is pointed out."""
    with redis_server(tmp_path, more=("maxmemory 100mb", "maxmemory-policy allkeys-lru")) as server:
        found = probe_shared_state(server.section)
        assert found.ok
        assert [finding.partition(":")[0] for finding in found.findings] == [
            "answers, and keys below authz",
            "maxmemory-policy is allkeys-lru",
        ]
        server.process.kill()
        found = probe_shared_state(server.section)
    assert not found.ok
    assert "unreachable" in next(iter(found.findings))
    assert found.document()["ok"] is False
