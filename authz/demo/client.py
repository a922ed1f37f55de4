"""Send one HTTP/1.1 request exactly as given: no normalised path, no merged headers, no redirects, no retries."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from authz.demo.loopback import Header

TIMEOUT_SECONDS = 120.0  # of each read


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; header names in lower case, one entry for each header line."""

    status: int
    headers: tuple[Header, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None."""
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:  # noqa: ANN401 - a JSON document has no static type
        """Return the body as parsed JSON, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def send(
    url: str,
    *,
    method: str = "GET",
    headers: Sequence[Header] = (),
    body: bytes = b"",
    timeout: float = TIMEOUT_SECONDS,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request on its own connection. Raises OSError, and HTTPException if the peer does not speak HTTP."""
    parts = urlsplit(url)
    target = url.removeprefix(f"{parts.scheme}://{parts.netloc}") or "/"
    connection = (
        http.client.HTTPConnection(parts.netloc, timeout=timeout)
        if parts.scheme == "http"
        else http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=tls)
    )
    try:
        names = {name.lower() for name, _ in headers}
        connection.putrequest(method, target, skip_host="host" in names, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body and "content-length" not in names:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        received = tuple((name.lower(), value) for name, value in response.getheaders())
        return Answer(response.status, received, response.read())
    finally:
        connection.close()
