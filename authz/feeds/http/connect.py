"""Connect to a server: resolve, check the addresses, connect, go through the proxy, complete TLS.

Rules of this file:
1. The checked address is the one that is connected to: names are resolved only once.
2. TLS 1.2 or newer, with the certificate verified for the host of the URL, also through a proxy. There is no fallback
   to plain text.
3. Connecting ends by its deadline. What follows can be cancelled from another thread.
4. A client certificate is sent only to the origins of the issuer's configured URLs, and proxy credentials only to the
   proxy.
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

from authz.config.address import write_authority
from authz.feeds.http.credentials import read_proxy_credentials
from authz.feeds.http.happy_eyeballs import ATTEMPT_DELAY, Attempt, interleave, race
from authz.feeds.http.tls import TlsTrust
from authz.feeds.http.trust import Network, Trust, read_origin

MAX_PROXY_RESPONSE_BYTES: Final = 16_384
_REPORT_SECONDS: Final = 0.05  # reserved at the end of a fetch to report why no address worked
MAX_ADDRESSES: Final = 64  # of one name

Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of *host*. Raises OSError."""
    results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(result[4][0]) for result in results))


class CancellableSocket:
    """The connection of one exchange, which another thread can cancel at any time."""

    def __init__(self) -> None:
        self._lock: Final = Lock()
        self._socket: socket.socket | None = None
        self.is_cancelled = False

    def attach(self, connection: socket.socket) -> None:
        """Make *connection* cancellable, instead of an earlier one. Raises TimeoutError if already cancelled."""
        with self._lock:
            self._detach()
            if self.is_cancelled:
                raise TimeoutError("timed out")
            # A duplicate of the descriptor: TLS takes over the original, and may close it.
            self._socket = socket.fromfd(connection.fileno(), connection.family, connection.type)

    def cancel(self) -> None:
        """End the current operation, and prevent further ones."""
        with self._lock:
            self.is_cancelled = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Release the connection: it can no longer be cancelled."""
        with self._lock:
            self._detach()

    def _detach(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass(frozen=True, slots=True)
class Proxy:
    """The configured HTTP proxy, which resolves the names of the servers behind it.

    *networks* are the link-local networks in which the proxy may be; *credentials_file* contains `user:password`.
    """

    host: str
    port: int
    networks: tuple[Network, ...] = ()
    credentials_file: str | None = None

    @property
    def trust(self) -> Trust:
        """The addresses that the proxy itself may have."""
        return Trust(configured_origins=frozenset({("http", self.host, self.port)}), networks=self.networks)

    def headers(self) -> dict[str, str]:
        """Return the headers for the proxy itself (RFC 9110 section 11.7.2). Raises RefreshError."""
        if self.credentials_file is None:
            return {}
        return {"proxy-authorization": read_proxy_credentials(self.credentials_file)}


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection, and the digest of the CAs by which its server was verified, as returned by `digest_of`."""

    socket: socket.socket
    authorities: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialer:
    """Opens connections for one issuer's fetches. *attempt_delay*, in seconds, is that of happy eyeballs (RFC 8305)."""

    trust: Trust
    tls: TlsTrust = field(default_factory=TlsTrust)
    proxy: Proxy | None = None
    resolve: Resolve = resolve
    attempt_delay: float = ATTEMPT_DELAY

    def dial(self, parts: SplitResult, cancellable: CancellableSocket, *, deadline: float) -> Connected:
        """Connect to the server of a URL, at the address that responds first, before the monotonic *deadline*.

        Raises OSError, Untrusted, RefreshError.
        """
        scheme, host, port = read_origin(parts)
        trust, peer_host, peer_port, tunnel = self.trust, host, port, b""
        if self.proxy is not None:
            trust, peer_host, peer_port = self.proxy.trust, self.proxy.host, self.proxy.port
            tunnel = _write_connect(write_authority(host, port), self.proxy.headers())
        if scheme == "https":
            verifier = self.tls.verifier(show_certificate=self.trust.may_have_credentials(parts))
            context, authorities = verifier.context, verifier.authorities
        else:
            context, authorities = None, self.tls.authorities()
        addresses = self.resolve(peer_host, peer_port)
        for address in addresses:
            trust.check_address(peer_host, address)
        if not addresses:
            raise OSError(f"{peer_host} has no address")
        left = deadline - time.monotonic()
        connection = race(
            [_attempt(address, peer_port, tunnel, context, host) for address in interleave(addresses)[:MAX_ADDRESSES]],
            deadline=deadline - min(_REPORT_SECONDS, left / 10),
            attempt_delay=self.attempt_delay,
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
    """Connect to one *address*; with a *context*, for https, also open the *tunnel* and complete TLS."""
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)  # noqa: FBT003 - the name of the method is clear
        # A request is sent in two parts, headers and body: the second would wait for the acknowledgement of the first,
        # which the server may delay by 40 ms.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield from _connect(connection, address, port)
        if context is not None:
            if tunnel:
                yield from _open_tunnel(connection, tunnel)
            connection = secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
            yield from _do_handshake(secured)
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


def _do_handshake(connection: ssl.SSLSocket) -> Attempt[None]:
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
    """Return a CONNECT request for *authority* (RFC 9110 section 9.3.6)."""
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _open_tunnel(connection: socket.socket, request: bytes) -> Attempt[None]:
    """Send a CONNECT request to a proxy and read its response. Raises OSError."""
    while request:
        yield connection.fileno(), EVENT_WRITE
        request = request[connection.send(request) :]
    response = b""
    # In TLS the client sends first: no byte of the server can follow the proxy's response.
    while b"\r\n\r\n" not in response:
        yield connection.fileno(), EVENT_READ
        piece = connection.recv(4096)
        response += piece
        if not piece or len(response) > MAX_PROXY_RESPONSE_BYTES:
            raise OSError("the proxy sent no valid response")
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})", response)
    if status is None or not status[1].startswith(b"2"):
        code = status[1].decode() if status else "?"
        hint = "; set user and password in fetch.proxy_credentials_file" if code == "407" else ""
        raise OSError(f"the proxy refused to connect: status {code}{hint}")
