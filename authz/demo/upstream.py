"""The upstream of the demo: it echoes every request."""

from __future__ import annotations

from authz.demo.client import Answer
from authz.demo.loopback import Header, LoopbackServer, Request, Response, json_response


def echo_server(*, port: int = 0) -> LoopbackServer:
    """Return an upstream that echoes; not yet started."""
    return LoopbackServer(echo, port=port)


def echo(request: Request) -> Response:
    """Return the method, the target and each header line that reached the upstream, as a JSON document."""
    headers = [[name.lower(), value] for name, value in request.headers]
    return json_response({"method": request.method, "target": request.target, "headers": headers})


def headers_seen(answer: Answer) -> tuple[Header, ...] | None:
    """Return the header lines in an echo, or None if the answer is not the upstream's."""
    document = answer.json()
    seen = document.get("headers") if isinstance(document, dict) else None
    return tuple((name, value) for name, value in seen) if isinstance(seen, list) else None


def identity_in(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    """Return the identity headers among these, sorted, in every `-` and `_` spelling: an upstream may accept each."""
    return tuple(sorted((name, value) for name, value in headers if name.replace("_", "-").startswith("x-auth-")))
