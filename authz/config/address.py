"""Strict parsing of addresses to listen on and URLs to fetch from."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

MAX_SOCKET_PATH_BYTES: Final = 107  # sun_path of Linux without its final NUL, unix(7)

_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*")
_HOST_AND_PORT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[0-9]{1,5})")
_INVALID_IN_URL: Final = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket at *path*: an absolute one, or one below the working directory that begins with `./`."""

    path: str


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP *port* (0: any free one) at *host*: a name, or an IPv4 or IPv6 address without brackets."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether it can be reached only from this host or pod."""
        address = _ip_address(self.host)
        return self.host.lower() == "localhost" if address is None else address.is_loopback


Address = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """Read `unix:/run/authz/authz.sock`, `unix:./authz.sock`, `127.0.0.1:9191` or `[::1]:9191`. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith(("/", "./")) or path.endswith("/") or "\0" in path:
            raise ValueError("a Unix socket needs a path such as unix:/run/authz/authz.sock, or unix:./authz.sock")
        if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES} bytes")
        return UnixAddress(path)
    return parse_tcp_address(text)


def parse_tcp_address(text: str) -> TcpAddress:
    """Read `127.0.0.1:9192`, `[::1]:9192` or `localhost:9192`. Raises ValueError."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError("must be host:port, such as 127.0.0.1:9192 or [::1]:9192")
    host, port = match["host"], int(match["port"])
    if not host:
        raise ValueError("needs a host; 0.0.0.0 means all addresses")
    if port > 65_535:
        raise ValueError("a port is at most 65535")
    bare = host.removeprefix("[").removesuffix("]")
    address = _ip_address(bare)
    if host != bare and not isinstance(address, ipaddress.IPv6Address):
        raise ValueError("brackets are for IPv6 addresses")
    if address is None and not is_host_name(host):
        raise ValueError("the host must be a name or an IP address")
    return TcpAddress(bare, port)


def write_authority(host: str, port: int | str) -> str:
    """Return `host:port`, with brackets around an IPv6 address (RFC 3986 section 3.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def worker_addresses(listen: str, workers: int) -> tuple[str, ...]:
    """Return the address of each worker: authz-0.sock, authz-1.sock ... or ports N, N+1 ...; for one, *listen* itself.

    *listen* is an address that `parse_address` accepts; port 0 is any free port, for each worker.
    """
    if workers == 1:
        return (listen,)
    if listen.startswith("unix:"):
        path = PurePosixPath(listen.removeprefix("unix:"))
        start = "unix:" if path.is_absolute() else "unix:./"
        return tuple(f"{start}{path.with_name(f'{path.stem}-{number}{path.suffix}')}" for number in range(workers))
    host, _, port = listen.rpartition(":")
    return tuple(f"{host}:{int(port) + number if int(port) else 0}" for number in range(workers))


def is_host_name(text: str) -> bool:
    """Return whether *text* is a host name (RFC 1123 section 2.1) and not a malformed IPv4 address."""
    return _HOST_NAME.fullmatch(text) is not None and not re.fullmatch(r"[0-9]+", text.rpartition(".")[2])


def is_host(text: str) -> bool:
    """Return whether *text* is a host name or an IP address, without a port."""
    return is_host_name(text) or _ip_address(text) is not None


def check_url(text: str, *, http: bool = False, query: bool = True) -> None:
    """Check an absolute https URL, or with *http* also a plain one, without user, password and fragment.

    Raises ValueError.
    """
    schemes = ("https", "http") if http else ("https",)
    scheme, _, after = text.partition("://")
    if _INVALID_IN_URL.search(text) or scheme.lower() not in {"https", "http"} or not after:
        raise ValueError("must be an absolute URL that begins with https://")
    if scheme.lower() not in schemes:
        raise ValueError("must begin with https://")
    if "#" in text:
        raise ValueError("must not have a fragment")
    if "?" in text and not query:
        raise ValueError("must not have a query")
    try:
        parts = urlsplit(text)
        has_user, host, port = "@" in parts.netloc, parts.hostname or "", parts.port
    except ValueError:  # malformed brackets or port
        has_user, host, port = False, "", None
    if has_user:
        raise ValueError("must not contain a user or password")
    if not is_host(host) or port == 0:
        raise ValueError("must have a host, and a valid port if there is one")


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_on_this_host(url: str) -> bool:
    """Return whether *url* is at a loopback address, where plain HTTP crosses no network."""
    try:
        return TcpAddress(urlsplit(url).hostname or "", 0).loopback
    except ValueError:  # no URL
        return False
