"""Reach a server: resolve, judge the address, connect, pass the proxy, shake hands.

Rules of this file:
1. The address that was judged is the one that is connected to: nothing is resolved twice.
2. TLS 1.2 or newer, the certificate verified for the host of the URL, also behind a proxy. Nothing is ever tried again
   without TLS.
3. Every step can be cancelled from another thread, and then no other step begins.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Final
from urllib.parse import SplitResult

from authz.feeds.failure import RefreshError
from authz.feeds.http.trust import Trust, read_origin, write_authority
from authz.files.stamp import FileStamp
from authz.telemetry.keys import Refresh

MAX_PROXY_ANSWER_BYTES: Final = 16_384

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
            self._socket = connection.dup()

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


class TlsTrust:
    """The authorities that servers are verified by: the system's, or those of a file, read anew when it changes."""

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file: Final = ca_file
        self._made: tuple[FileStamp, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """Return what to shake hands by. Raises RefreshError."""
        if self._ca_file is None:
            return _system_context()
        try:
            stamp = FileStamp.of(self._ca_file)  # before the content is read
            if self._made is None or self._made[0] != stamp:
                self._made = (stamp, _make_context(self._ca_file))
        except OSError as error:
            why = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise RefreshError(Refresh.MISCONFIGURED, f"fetch.ca_file {self._ca_file}: {why}") from None
        return self._made[1]


@cache
def _system_context() -> ssl.SSLContext:
    return _make_context(None)


def _make_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, written in the configuration; it resolves and reaches the hosts beyond it."""

    host: str
    port: int

    @property
    def trust(self) -> Trust:
        """What addresses the proxy itself may have."""
        return Trust(configured_origins=frozenset({("http", self.host, self.port)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialer:
    """Connects for one issuer's fetches."""

    trust: Trust
    tls: TlsTrust = field(default_factory=lambda: TlsTrust(None))
    proxy: Proxy | None = None
    resolve: Resolve = resolve

    def dial(self, parts: SplitResult, cancellable: CancellableSocket, *, deadline: float) -> socket.socket:
        """Connect to the server of a URL, to the first address that answers before the monotonic *deadline*.

        Raises OSError, Untrusted, RefreshError.
        """
        scheme, host, port = read_origin(parts)
        trust, near_host, near_port = self.trust, host, port
        if self.proxy is not None:
            trust, near_host, near_port = self.proxy.trust, self.proxy.host, self.proxy.port
        context = self.tls.context() if scheme == "https" else None
        addresses = self.resolve(near_host, near_port)
        for address in addresses:
            trust.check_address(near_host, address)
        for left in range(len(addresses), 0, -1):
            share = max(0.001, (deadline - time.monotonic()) / left)
            try:
                return self._reach(addresses[-left], near_port, cancellable, share, tunnel=(context, host, port))
            except OSError:
                if left == 1 or cancellable.is_cancelled:
                    raise
        raise OSError(f"{near_host} has no address")

    def _reach(
        self,
        address: str,
        port: int,
        cancellable: CancellableSocket,
        timeout: float,
        *,
        tunnel: tuple[ssl.SSLContext | None, str, int],
    ) -> socket.socket:
        context, host, far_port = tunnel
        plain = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            cancellable.attach(plain)
            plain.settimeout(timeout)
            plain.connect((address, port))
            if context is None:
                return plain
            if self.proxy is not None:
                _open_tunnel(plain, host, far_port)
            return context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise


def _open_tunnel(connection: socket.socket, host: str, port: int) -> None:
    """Ask a proxy to connect us to *host* (RFC 9110 section 9.3.6). Raises OSError."""
    authority = write_authority(host, port)
    connection.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode("ascii"))
    answer = b""
    # The server beyond speaks only when spoken to: no byte of it can come with the proxy's answer.
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(4096)
        answer += piece
        if not piece or len(answer) > MAX_PROXY_ANSWER_BYTES:
            raise OSError("the proxy gave no answer that can be read")
    if not (status := re.match(rb"HTTP/1\.[01] ([0-9]{3})", answer)) or not status[1].startswith(b"2"):
        raise OSError(f"the proxy refused to connect to {authority}: status {status[1].decode() if status else '?'}")
