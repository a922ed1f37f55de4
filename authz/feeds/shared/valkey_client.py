"""A client of Valkey or Redis: the only importer of the library `valkey`.

Rules of this file:
1. Replies are raw: the library's conversions of them are not used, so that what comes does not depend on its release.
2. Nothing is sent twice, except by `create`, which recognizes its own random value.
3. TLS is that of the feeds: explicit settings, host names verified, files read again when they change.
4. An idle connection that the server has closed is replaced before it is used. A broken one fails its command only.
5. A reply is bounded in octets and in time, however slowly it comes: others write to the server too.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from valkey import exceptions as library_errors
from valkey.connection import Connection, ConnectionPool
from valkey.credentials import CredentialProvider

from authz.config.shared_state import SharedState as SharedStateSection
from authz.feeds.failure import RefreshError
from authz.feeds.http.credentials import read_password
from authz.feeds.http.tls import ClientCertificate, TlsTrust
from authz.feeds.shared.state import Part, Reply, SharedStateError
from authz.telemetry.redaction import printable

T = TypeVar("T")

DEFAULT_PORT: Final = 6379
MAX_REPLY_BYTES: Final = 32 * 1024 * 1024  # octets of all replies to what was sent at once
_ENCRYPTED: Final = frozenset({"rediss", "valkeys"})
_UNAUTHORIZED: Final = ("NOAUTH", "NOPERM", "WRONGPASS")
_CLUSTER: Final = ("MOVED ", "ASK ", "CLUSTERDOWN")
_REPLACE: Final = """if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1"""


class ValkeyState:
    """A pool of connections to the server of *section*: one for each thread that waits for a reply.

    *blocks_for* is how much longer than the configured timeout a reply may take, in seconds.
    """

    def __init__(self, section: SharedStateSection, *, blocks_for: float = 0.0) -> None:
        url, timeout = urlsplit(section.url), section.timeout.total_seconds()
        self._prefix: Final = section.prefix
        self._where: Final = f"{url.hostname}:{url.port or DEFAULT_PORT}"
        settings: dict[str, Any] = {
            "host": url.hostname,
            "port": url.port or DEFAULT_PORT,
            "db": int(url.path.strip("/") or 0),
            "credential_provider": None if section.password_file is None else _Password(section),
            "socket_connect_timeout": timeout,
            "socket_timeout": timeout + blocks_for,
            "socket_keepalive": True,
            "lib_name": None,  # two more round trips for each connection
            "lib_version": None,
        }
        settings["connection_class"] = _PlainConnection
        if url.scheme.lower() in _ENCRYPTED:
            settings |= {
                "connection_class": _TlsConnection,
                "tls": TlsTrust(
                    section.ca_file, ClientCertificate.configured(section.client_cert_file, section.client_key_file)
                ),
            }
        self._pool: Final = ConnectionPool(**settings)

    def __repr__(self) -> str:
        return f"ValkeyState({self._where})"

    def key(self, *names: str) -> str:
        """Return the name of a key of ours."""
        return self._prefix + ":".join(names)

    def execute(self, *command: Part) -> Reply:
        """Execute one command. Raises SharedStateError."""

        def exchange(connection: Connection) -> Reply:
            connection.send_command(*command)
            return connection.read_response()

        return self._run(exchange)

    def execute_all(self, commands: Iterable[tuple[Part, ...]]) -> list[Reply]:
        """Execute several commands; if some fail, the others are executed all the same. Raises SharedStateError."""
        wanted = list(commands)

        def exchange(connection: Connection) -> list[Reply]:
            connection.send_packed_command(connection.pack_commands(wanted))
            return [_read(connection) for _ in wanted]

        replies = self._run(exchange) if wanted else []
        for reply in replies:
            if isinstance(reply, library_errors.ValkeyError):
                raise self._translate(reply)
        return replies

    def create(self, key: str, *, milliseconds: int) -> bool:
        """Create *key*, and say whether it is ours. Raises SharedStateError."""
        value = secrets.token_bytes(8)
        command = ("SET", key, value, "NX", "PX", milliseconds)
        try:
            return self.execute(*command) is not None
        except SharedStateError as error:
            if error.result != "unreachable":
                raise
        # The connection broke, perhaps between the command and its reply: the value shows who created the key.
        created = self.execute(*command) is not None
        return created or self.execute("GET", key) == value

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        """Compare and set: a script is one step for all clients. Raises SharedStateError."""
        return self.execute("EVAL", _REPLACE, 1, key, old, new) == 1

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()

    def _run(self, exchange: Callable[[Connection], T]) -> T:
        try:
            connection = self._pool.get_connection("")
            try:
                return exchange(connection)
            except BaseException as error:
                if not isinstance(error, library_errors.ResponseError):  # a reply may be under way to the next user
                    connection.disconnect()
                raise
            finally:
                self._pool.release(connection)
        except (library_errors.ValkeyError, OSError) as error:
            raise self._translate(error) from None
        except Exception as error:  # of its parser, for replies that are none: ValueError, RecursionError
            text = f"shared state at {self._where}: what it sent cannot be read ({type(error).__name__})"
            raise SharedStateError("unreadable", text) from error

    def _translate(self, error: Exception) -> SharedStateError:
        """Return the error as a SharedStateError."""
        text = printable(str(error)) or type(error).__name__
        match error:
            case _DiscardConnection():
                result, text = error.result, str(error)
            case library_errors.TimeoutError():
                result = "timeout"
            case (
                library_errors.AuthenticationError()
                | library_errors.AuthorizationError()
                | library_errors.NoPermissionError()
            ):
                result = "unauthorized"
            case library_errors.ResponseError() if text.startswith(_UNAUTHORIZED):
                result = "unauthorized"
            case library_errors.ResponseError() if text.startswith(_CLUSTER):
                result, text = "rejected", f"{text}: a cluster, which is not supported"
            case library_errors.ResponseError():
                result = "rejected"
            case library_errors.ConnectionError() | OSError():
                result = "unreachable"
            case _:
                result = "unreadable"
        return SharedStateError(result, f"shared state at {self._where}: {text}")


class _DiscardConnection(library_errors.ConnectionError):
    """A failure of ours within the library: a subclass of its error, so that it discards the connection."""

    def __init__(self, result: str, why: str) -> None:
        super().__init__(why)
        self.result = result


class _BoundedSocket:
    """A socket of the library: replies to what was sent last have MAX_REPLY_BYTES octets and *seconds* at most."""

    def __init__(self, plain: socket.socket, *, seconds: float) -> None:
        self._plain: Final = plain
        self._seconds: Final = seconds
        self._timeout: float | None = seconds  # as the library sets it: 0 to look whether something has come
        self._left = MAX_REPLY_BYTES
        self._until = time.monotonic() + seconds

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all that is not below is the socket's own
        return getattr(self._plain, name)

    def settimeout(self, seconds: float) -> None:
        self._timeout = seconds
        self._plain.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        self._left = MAX_REPLY_BYTES
        self._until = time.monotonic() + self._seconds
        self._plain.settimeout(self._seconds)
        self._plain.sendall(data)

    def recv(self, size: int) -> bytes:
        if self._timeout != 0:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the reply takes too long")
            self._plain.settimeout(left)
        data = self._plain.recv(size)
        self._left -= len(data)
        if self._left < 0:
            raise _DiscardConnection("unreadable", f"a reply has more than {MAX_REPLY_BYTES} octets")
        return data


class _PlainConnection(Connection):
    """A connection without TLS."""

    def _connect(self) -> _BoundedSocket:
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]  # it has no types
        return _BoundedSocket(plain, seconds=self.socket_timeout or 0.0)


class _TlsConnection(Connection):
    """A connection whose certificates are verified as those of all servers are."""

    def __init__(self, *, tls: TlsTrust, **settings: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(**settings)  # type: ignore[no-untyped-call]  # it has no types
        self._tls: Final = tls

    def _connect(self) -> _BoundedSocket:
        with _as_shared_state_errors():
            context = self._tls.verifier(show_certificate=True).context
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]  # as above
        try:
            plain.settimeout(self.socket_connect_timeout)
            encrypted = context.wrap_socket(plain, server_hostname=self.host)
            encrypted.settimeout(self.socket_timeout)
        except ssl.SSLError as error:
            plain.close()
            raise _DiscardConnection("tls", f"TLS: {error.reason or error}") from None
        except BaseException:
            plain.close()
            raise
        return _BoundedSocket(encrypted, seconds=self.socket_timeout or 0.0)


class _Password(CredentialProvider):
    """The user and the password, which is read at each connection: it changes while the sidecar runs."""

    def __init__(self, section: SharedStateSection) -> None:
        self._section: Final = section

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        file, user = self._section.password_file or "", self._section.username
        with _as_shared_state_errors():
            password = read_password(file)
        return (password,) if user is None else (user, password)


@contextmanager
def _as_shared_state_errors() -> Iterator[None]:
    """Raise failures of files, which name the setting of a fetch, as failures of ours."""
    try:
        yield
    except RefreshError as error:
        raise _DiscardConnection("misconfigured", str(error).replace("fetch.", "shared_state.")) from None


def _read(connection: Connection) -> Reply:
    """Return the next reply; an error of its command is returned too, for others are behind it."""
    try:
        return connection.read_response(disconnect_on_error=False)
    except library_errors.ResponseError as error:
        return error
