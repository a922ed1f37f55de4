"""Reach a server: resolve, check the addresses, connect, pass the proxy, complete TLS.

Rules of this file:
1. The address that was checked is the one that is connected to: nothing is resolved twice.
2. TLS 1.2 or newer, the certificate verified for the host of the URL, also behind a proxy. Nothing is ever tried again
   without TLS.
3. Connecting ends by its deadline, and what follows can be cancelled from another thread; no other step begins then.
4. A client certificate is shown to the origins of the issuer's configured URLs only, and the credentials of a proxy to
   the proxy only.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from selectors import EVENT_READ, EVENT_WRITE
from threading import Lock
from typing import Final
from urllib.parse import SplitResult

from authz.feeds.http.credentials import read_proxy_credentials
from authz.feeds.http.race import PACE_SECONDS, Attempt, interleave, race
from authz.feeds.http.tls import TlsTrust
from authz.feeds.http.trust import Network, Trust, read_origin, write_authority

MAX_PROXY_ANSWER_BYTES: Final = 16_384
_REPORT_SECONDS: Final = 0.05  # of a fetch, that are left to say what was found if no address completed
MAX_ADDRESSES: Final = 64  # of one name, that are tried

Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of *host*. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CancellableSocket:
    """The connection of one exchange, which another thread can cancel, whatever it waits for."""

    def __init__(self) -> None:
        self._lock: Final = Lock()
        self._socket: socket.socket | None = None
        self.is_cancelled = False

    def attach(self, connection: socket.socket) -> None:
        """Watch over *connection*, in place of an earlier one. Raises TimeoutError if it is cancelled already."""
        with self._lock:
            self._detach()
            if self.is_cancelled:
                raise TimeoutError("time is up")
            # A descriptor of its own: TLS takes the other one over, and may close it meanwhile.
            self._socket = socket.fromfd(connection.fileno(), connection.family, connection.type)

    def cancel(self) -> None:
        """End whatever goes on, and let nothing else begin."""
        with self._lock:
            self.is_cancelled = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Watch over nothing any more."""
        with self._lock:
            self._detach()

    def _detach(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, written in the configuration; it resolves and reaches the hosts beyond it.

    *networks* are link-local ones in which the proxy may be, *credentials_file* holds a user and password for it.
    """

    host: str
    port: int
    networks: tuple[Network, ...] = ()
    credentials_file: str | None = None

    @property
    def trust(self) -> Trust:
        """What addresses the proxy itself may have."""
        return Trust(configured_origins=frozenset({("http", self.host, self.port)}), networks=self.networks)

    def headers(self) -> dict[str, str]:
        """Return what requests to the proxy carry for it (RFC 9110 section 11.7.2). Raises RefreshError."""
        if self.credentials_file is None:
            return {}
        return {"proxy-authorization": read_proxy_credentials(self.credentials_file)}


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection, and the digest of the authorities by which its server was verified, as `digest_of` makes it."""

    socket: socket.socket
    authorities: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialer:
    """Connects for one issuer's fetches. *pace* is in seconds: see authz.feeds.http.race."""

    trust: Trust
    tls: TlsTrust = field(default_factory=TlsTrust)
    proxy: Proxy | None = None
    resolve: Resolve = resolve
    pace: float = PACE_SECONDS

    def dial(self, parts: SplitResult, cancellable: CancellableSocket, *, deadline: float) -> Connected:
        """Connect to the server of a URL, at the address that is ready first, before the monotonic *deadline*.

        Raises OSError, Untrusted, RefreshError.
        """
        scheme, host, port = read_origin(parts)
        trust, near_host, near_port, tunnel = self.trust, host, port, b""
        if self.proxy is not None:
            trust, near_host, near_port = self.proxy.trust, self.proxy.host, self.proxy.port
            tunnel = _write_connect(write_authority(host, port), self.proxy.headers())
        if scheme == "https":
            verifier = self.tls.verifier(show_certificate=self.trust.may_have_credentials(parts))
            context, authorities = verifier.context, verifier.authorities
        else:
            context, authorities = None, self.tls.authorities()
        addresses = self.resolve(near_host, near_port)
        for address in addresses:
            trust.check_address(near_host, address)
        if not addresses:
            raise OSError(f"{near_host} has no address")
        left = deadline - time.monotonic()
        connection = race(
            [_attempt(address, near_port, tunnel, context, host) for address in interleave(addresses)[:MAX_ADDRESSES]],
            deadline=deadline - min(_REPORT_SECONDS, left / 10),
            pace=self.pace,
        )
        try:
            cancellable.attach(connection)
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        except BaseException:
            connection.close()
            raise
        return Connected(connection, authorities)


def _attempt(
    address: str, port: int, tunnel: bytes, context: ssl.SSLContext | None, host: str
) -> Attempt[socket.socket]:
    """Connect to one *address*; for https, a *context*, also through the proxy there, and complete TLS."""
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)  # noqa: FBT003 - its name says what it is
        yield from _connect(connection, address, port)
        if context is not None:
            if tunnel:
                yield from _open_tunnel(connection, tunnel)
            connection = secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
            yield from _shake_hands(secured)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(connection: socket.socket, address: str, port: int) -> Attempt[None]:
    code = connection.connect_ex((address, port))
    if code == errno.EINPROGRESS:
        yield connection.fileno(), EVENT_WRITE
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, f"{os.strerror(code)} ({address})")


def _shake_hands(connection: ssl.SSLSocket) -> Attempt[None]:
    while True:
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            yield connection.fileno(), EVENT_READ
        except ssl.SSLWantWriteError:
            yield connection.fileno(), EVENT_WRITE
        else:
            return


def _write_connect(authority: str, headers: dict[str, str]) -> bytes:
    """Write the request to a proxy that connects us to *authority* (RFC 9110 section 9.3.6)."""
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _open_tunnel(connection: socket.socket, request: bytes) -> Attempt[None]:
    """Ask a proxy to connect us. Raises OSError."""
    while request:
        yield connection.fileno(), EVENT_WRITE
        request = request[connection.send(request) :]
    answer = b""
    # The server beyond speaks only when spoken to: no byte of it can come with the proxy's answer.
    while b"\r\n\r\n" not in answer:
        yield connection.fileno(), EVENT_READ
        piece = connection.recv(4096)
        answer += piece
        if not piece or len(answer) > MAX_PROXY_ANSWER_BYTES:
            raise OSError("the proxy gave no answer that can be read")
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})", answer)
    if status is None or not status[1].startswith(b"2"):
        code = status[1].decode() if status else "?"
        hint = "; give user and password in fetch.proxy_credentials_file" if code == "407" else ""
        raise OSError(f"the proxy refused to connect: status {code}{hint}")
