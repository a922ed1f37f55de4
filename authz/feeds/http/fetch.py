"""A bounded HTTP GET: overall deadline, size limit, no redirects, no proxies from the environment, verified TLS.

Rules of this file:
1. The deadline covers the whole exchange: name resolution, handshake, headers and body. The exchange runs on its own
   thread; after the deadline its connection is shut down and the thread abandoned. Only name resolution cannot be
   cancelled: at most one thread of a fetcher hangs in it, and until it ends every fetch fails at once.
2. The size limit applies to decoded bytes, counted while they arrive.
3. Any status but 200 and 304 is a failure, including redirects.
4. Text from a server is escaped and truncated in messages. Messages contain no credentials, and no query of a redirect
   target, which may contain some.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from threading import Event, Thread
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from authz.feeds.failure import RefreshError
from authz.feeds.http.connect import CancellableSocket, Dialer
from authz.feeds.http.credentials import read_token
from authz.feeds.http.freshness import read_headers, retry_after
from authz.feeds.http.trust import Untrusted, read_origin
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import printable

_CHUNK: Final = 16_384
_ACCEPT: Final = "application/json, application/jwk-set+json"  # Kubernetes serves keys only as the latter (RFC 7517)


@dataclass(frozen=True, slots=True)
class Response:
    """A response: a document, or status 304. *headers* are as `read_headers` returns them.

    *authorities* is the digest of the CAs by which the server was verified: see authz.feeds.http.tls.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    authorities: str = ""

    @property
    def media_type(self) -> str:
        """The media type, in lower case and without parameters; empty if there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


Fetch = Callable[[str, Mapping[str, str]], Response]


class Fetcher:
    """Fetches documents for one issuer, one at a time."""

    def __init__(
        self,
        dialer: Dialer,
        *,
        timeout: float,
        max_bytes: int,
        bearer_token_file: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._dialer: Final = dialer
        self._timeout: Final = timeout
        self._max_bytes: Final = max_bytes
        self._bearer_token_file: Final = bearer_token_file
        self._now: Final = now
        self._abandoned_thread: Thread | None = None

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """Fetch *url* within the timeout. Raises RefreshError."""
        if self._abandoned_thread is not None and self._abandoned_thread.is_alive():
            raise RefreshError(Refresh.TIMEOUT, f"{printable(url)}: name resolution for an earlier fetch still hangs")
        exchange = _Exchange(lambda cancellable: self._exchange(cancellable, url, headers))
        thread = Thread(target=exchange.run, name="fetch", daemon=True)
        thread.start()
        if not exchange.ended.wait(self._timeout):
            self._abandoned_thread = thread
            exchange.cancellable.cancel()
            raise RefreshError(Refresh.TIMEOUT, f"{printable(url)}: no complete response within {self._timeout:g} s")
        return exchange.result()

    def _exchange(self, cancellable: CancellableSocket, url: str, headers: Mapping[str, str]) -> Response:
        deadline = time.monotonic() + self._timeout
        with as_refresh_errors(url):
            parts = self._dialer.trust.check_url(url)
            connection = HTTPConnection(str(parts.hostname), read_origin(parts)[2], timeout=self._timeout)
            dialed = self._dialer.dial(parts, cancellable, deadline=deadline)
            connection.sock = dialed.socket
            try:
                target = write_target(parts, self._dialer)
                connection.request("GET", target, headers=self._headers(parts, headers), preload_content=False)
                with closing(connection.getresponse()) as response:
                    return replace(self._read(cancellable, response, url), authorities=dialed.authorities)
            finally:
                connection.close()

    def _headers(self, parts: SplitResult, headers: Mapping[str, str]) -> dict[str, str]:
        sent = {"host": parts.netloc, "accept": _ACCEPT, "user-agent": "authz-sidecar", **headers}
        if self._bearer_token_file is not None and self._dialer.trust.may_have_credentials(parts):
            sent["authorization"] = f"Bearer {read_token(self._bearer_token_file)}"
        if parts.scheme == "http" and self._dialer.proxy is not None:
            sent |= self._dialer.proxy.headers()  # for https they are in CONNECT, so that the issuer does not get them
        return sent

    def _read(self, cancellable: CancellableSocket, response: HTTPResponse, url: str) -> Response:
        headers = read_headers(response.headers.items())
        shown = printable(url)
        if 300 <= response.status < 400 and response.status != 304:
            raise refuse_redirect(url, response.status, headers)
        if response.status not in {200, 304}:
            delay = retry_after(headers, self._now()) if response.status in {429, 503} else None
            raise RefreshError(Refresh.STATUS, f"{shown}: HTTP status {response.status}", retry_after=delay)
        body = bytearray()
        while not cancellable.is_cancelled and (chunk := response.read(_CHUNK, decode_content=True)):
            body += chunk
            if len(body) > self._max_bytes:
                raise RefreshError(Refresh.TOO_LARGE, f"{shown}: more than {self._max_bytes} bytes (fetch.max_bytes)")
        return Response(response.status, headers, bytes(body))


@contextmanager
def as_refresh_errors(url: str) -> Iterator[None]:
    """Turn what goes wrong with an exchange into a RefreshError."""
    try:
        yield
    except Untrusted as error:
        raise RefreshError(Refresh.UNTRUSTED, str(error)) from error
    except ssl.SSLError as error:
        raise RefreshError(Refresh.TLS, _describe(url, error)) from error
    except (TimeoutError, ReadTimeoutError) as error:
        raise RefreshError(Refresh.TIMEOUT, _describe(url, error)) from error
    except (OSError, HTTPError, HTTPException, ValueError) as error:
        raise RefreshError(Refresh.UNREACHABLE, _describe(url, error)) from error


def write_target(parts: SplitResult, dialer: Dialer) -> str:
    """Write what a request to a server asks for: a path and query, to a proxy a whole URL (RFC 9112 section 3.2)."""
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return f"http://{parts.netloc}{target}" if parts.scheme == "http" and dialer.proxy is not None else target


def refuse_redirect(url: str, status: int, headers: Mapping[str, str]) -> RefreshError:
    """Return the error for an answer that leads elsewhere."""
    leads = _describe_redirect(url, headers.get("location"))
    text = f"{printable(url)}: HTTP status {status}{leads}; redirects are not followed"
    return RefreshError(Refresh.REDIRECT_REFUSED, text)


def _describe(url: str, error: Exception) -> str:
    return f"{printable(url)}: {printable(str(error)) or type(error).__name__}"


def _describe_redirect(url: str, location: str | None) -> str:
    """Describe a redirect target (RFC 9110 section 10.2.2) without user information and query, which may be secret."""
    if not location:
        return ""
    try:
        parts = urlsplit(urljoin(url, location))
    except ValueError:
        return " to an invalid URL"
    host = parts.netloc.rpartition("@")[2]
    return f" to {printable(f'{parts.scheme}://{host}{parts.path}')}{'?...' if parts.query else ''}"


class _Exchange:
    """One exchange on its own thread."""

    def __init__(self, work: Callable[[CancellableSocket], Response]) -> None:
        self.ended: Final = Event()
        self.cancellable: Final = CancellableSocket()
        self._work = work
        self._response: Response | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._response = self._work(self.cancellable)
        except BaseException as error:  # noqa: BLE001 - raised again by `result` on the waiting thread
            self._error = error
        finally:
            self.cancellable.release()
            self.ended.set()

    def result(self) -> Response:
        if self._error is not None:
            raise self._error
        if self._response is None:
            raise RefreshError(Refresh.INTERNAL_ERROR, "the exchange ended without a response")
        return self._response
