"""The upstream of the demo: it echoes every request, and says what the sidecar's token says, if it can verify it."""

from __future__ import annotations

import json
import time
from functools import partial
from http.client import HTTPException

from authz.core.claims import ClaimRules, check
from authz.core.keys import KeySet
from authz.core.reasons import Rejected
from authz.core.token import parse_token
from authz.demo.client import Answer, send
from authz.demo.loopback import Header, LoopbackServer, Request, Response, json_response

TOKEN = "txn-token"  # the header of the token, as in the configuration of the demo
_RULES = ClaimRules(issuer="https://sidecar.example", audiences=frozenset({"orders"}), required=("exp", "sub", "txn"))
_ALGORITHMS = ["ES256"]


def echo_server(*, port: int = 0, keys_url: str | None = None) -> LoopbackServer:
    """Return an upstream that echoes, not yet started. With *keys_url*, it verifies tokens by the keys there."""
    return LoopbackServer(echo if keys_url is None else partial(echo_verified, keys_url), port=port)


def echo(request: Request) -> Response:
    """Return the method, the target and each header line that reached the upstream, as a JSON document."""
    return json_response(_describe(request))


def echo_verified(keys_url: str, request: Request) -> Response:
    """Return the same, with `verified`: subject and scope of the sidecar's token, or why it is refused."""
    tokens = [value for name, value in request.headers if name.lower() == TOKEN]
    verified = [verify(token, keys_url) for token in tokens]
    return json_response({**_describe(request), "verified": verified})


def verify(token: str, keys_url: str) -> str:
    """Verify a token of the sidecar, by the keys that it publishes; return its subject and scope, or what is wrong."""
    try:
        keys = KeySet.from_json(send(keys_url).body)
        claims = check(keys.verify(parse_token(token), _ALGORITHMS), _RULES, time.time())
    except Rejected as rejected:
        return f"refused: {rejected.reason.value}"
    except (OSError, HTTPException, ValueError) as error:
        return f"refused: {type(error).__name__}"
    return f"{claims.subject}, {claims.members.get('scope')}"


def headers_seen(answer: Answer) -> tuple[Header, ...] | None:
    """Return the header lines in an echo, or None if the answer is not the upstream's."""
    document = answer.json()
    headers = document.get("headers") if isinstance(document, dict) else None
    return tuple((name, value) for name, value in headers) if isinstance(headers, list) else None


def identity_in(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    """Return the identity headers among these, sorted, in every `-` and `_` spelling: an upstream may accept each."""
    return tuple(sorted((name, value) for name, value in headers if name.replace("_", "-").startswith("x-auth-")))


def verified_in(answer: Answer) -> tuple[Header, ...]:
    """Return what the upstream said of each token of the sidecar that it got, as a line for each."""
    return tuple(("verified", text) for text in json.loads(answer.body).get("verified", []))


def _describe(request: Request) -> dict[str, object]:
    headers = [[name.lower(), value] for name, value in request.headers]
    return {"method": request.method, "target": request.target, "headers": headers}
