"""One bounded GET: an overall deadline, a byte cap, no redirects, no proxies from the environment, verified TLS.

Rules of this file:
1. The deadline is for the whole exchange: name resolution, handshake, headers and body. The exchange runs on a thread
   of its own, which is abandoned with its socket shut when time is up; at most one per fetcher can be left behind.
2. The cap is on decoded bytes, counted while they come.
3. Anything but 200 and 304 is a failure; redirects above all.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Final
from urllib.parse import SplitResult

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from authz.feeds.freshness import retry_after
from authz.feeds.trust import Trust, Untrusted

_CHUNK: Final = 16_384
_PORTS: Final = {"https": 443, "http": 80}


class FetchError(Exception):
    """Raised where a document could not be fetched. *result* is a word for metrics, the text is for the operator.

    *wait* is how many seconds the server asked to be left alone.
    """

    def __init__(self, result: str, detail: str, *, wait: float | None = None) -> None:
        super().__init__(detail)
        self.result = result
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Answer:
    """A document, or with status 304 the word that it has not changed. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Fetch = Callable[[str, Mapping[str, str]], Answer]
Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of *host*. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Fetcher:
    """Fetches documents for one issuer."""

    def __init__(
        self,
        trust: Trust,
        *,
        timeout: float,
        max_bytes: int,
        ca_file: str | None = None,
        bearer_token_file: str | None = None,
        resolve: Resolve = resolve,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._trust: Final = trust
        self._timeout: Final = timeout
        self._max_bytes: Final = max_bytes
        self._ca_file: Final = ca_file
        self._bearer_token_file: Final = bearer_token_file
        self._resolve: Final = resolve
        self._now: Final = now
        self._left_behind: Thread | None = None

    def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Fetch *url* within the timeout. Raises FetchError."""
        if self._left_behind is not None and self._left_behind.is_alive():
            raise FetchError("timeout", f"{url}: an earlier exchange still hangs, probably in name resolution")
        exchange = _Exchange(lambda exchange: self._exchange(exchange, url, headers))
        thread = Thread(target=exchange.run, name="fetch", daemon=True)
        thread.start()
        if not exchange.ended.wait(self._timeout):
            self._left_behind = thread
            exchange.abandon()
            raise FetchError("timeout", f"{url}: no whole answer within {self._timeout:g} s")
        return exchange.result()

    def _exchange(self, exchange: _Exchange, url: str, headers: Mapping[str, str]) -> Answer:
        try:
            parts = self._trust.check_url(url)
            connection = self._connect(exchange, parts)
            try:
                target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
                connection.request("GET", target, headers=self._headers(parts, headers), preload_content=False)
                return self._read(exchange, connection, url)
            finally:
                connection.close()
        except Untrusted as error:
            raise FetchError("untrusted", str(error)) from error
        except ssl.SSLError as error:
            raise FetchError("tls", f"{url}: {error}") from error
        except (OSError, HTTPError, ValueError) as error:
            raise FetchError("unreachable", f"{url}: {error}") from error

    def _connect(self, exchange: _Exchange, parts: SplitResult) -> HTTPConnection:
        """Connect to the first address that answers, each judged before it is tried."""
        host = str(parts.hostname)
        port = parts.port or _PORTS[parts.scheme]
        addresses = self._resolve(host, port)
        for address in addresses:
            self._trust.check_address(host, address)
        deadline = time.monotonic() + self._timeout
        for place, address in enumerate(addresses):
            share = max(0.001, (deadline - time.monotonic()) / (len(addresses) - place))
            connection = self._connection(parts.scheme, host, address, port, share)
            exchange.connection = connection
            try:
                connection.connect()
            except (OSError, HTTPError):
                if place == len(addresses) - 1:
                    raise
            else:
                return connection
        raise OSError(f"{host} has no address")

    def _connection(self, scheme: str, host: str, address: str, port: int, timeout: float) -> HTTPConnection:
        if scheme == "http":
            return HTTPConnection(address, port, timeout=timeout)
        context = ssl.create_default_context(cafile=self._ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return HTTPSConnection(
            address, port, timeout=timeout, ssl_context=context, server_hostname=host, assert_hostname=host
        )

    def _headers(self, parts: SplitResult, headers: Mapping[str, str]) -> dict[str, str]:
        sent = {"host": parts.netloc, "accept": "application/json", "user-agent": "authz-sidecar", **headers}
        if self._bearer_token_file is not None:
            token = Path(self._bearer_token_file).read_text(encoding="ascii").strip()
            sent["authorization"] = f"Bearer {token}"
        return sent

    def _read(self, exchange: _Exchange, connection: HTTPConnection, url: str) -> Answer:
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.headers.items()}
        if 300 <= response.status < 400 and response.status != 304:
            raise FetchError("redirect_refused", f"{url}: redirects are not followed; configure where it leads to")
        if response.status not in {200, 304}:
            wait = retry_after(headers.get("retry-after"), self._now()) if response.status in {429, 503} else None
            raise FetchError("status", f"{url}: HTTP status {response.status}", wait=wait)
        body = bytearray()
        while not exchange.abandoned and (chunk := response.read(_CHUNK, decode_content=True)):
            body += chunk
            if len(body) > self._max_bytes:
                raise FetchError("too_large", f"{url}: more than {self._max_bytes} bytes (fetch.max_bytes)")
        return Answer(response.status, headers, bytes(body))


class _Exchange:
    """One exchange on a thread of its own."""

    def __init__(self, work: Callable[[_Exchange], Answer]) -> None:
        self.ended: Final = Event()
        self.abandoned = False
        self.connection: HTTPConnection | None = None
        self._work = work
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._answer = self._work(self)
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            self._error = error
        finally:
            self.ended.set()

    def abandon(self) -> None:
        """Shut the socket, so that the thread ends."""
        self.abandoned = True
        sock = self.connection.sock if self.connection is not None else None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def result(self) -> Answer:
        if self._error is not None:
            raise self._error
        if self._answer is None:
            raise FetchError("unreachable", "the exchange ended without an answer")
        return self._answer
