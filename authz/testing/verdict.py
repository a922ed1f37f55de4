"""The result of one request, read from the bytes that Envoy would receive."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from google.protobuf.json_format import MessageToDict

from authz.core import base64url
from authz.core.decision import Allow, Decision
from authz.core.reasons import Reason
from authz.envoy import ext_authz_pb2 as wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A decision as seen by client, upstream and operator.

    *allowed* says whether the request is forwarded to the upstream. *reason*, *detail*, *rule*, *issuer* and *subject*
    are for the operator; *would_deny* marks a denial that a shadow rule only reports. *headers* are the identity
    headers that the upstream receives, *request_headers* all of its headers: both are empty if it is not reached.
    *upstream_token* are the claims of the token that the sidecar minted for it, empty if there is none.
    *status*, *challenge* and *body* are the sidecar's own answer to the client: None if the request is forwarded.
    *metadata* is what Envoy's other filters and its access log can read.
    """

    allowed: bool
    reason: Reason
    detail: str
    would_deny: bool
    rule: str | None
    issuer: str | None
    subject: str | None
    headers: Mapping[str, str]
    upstream_token: Mapping[str, Any]
    request_headers: Mapping[str, str] = field(repr=False)
    status: int | None
    challenge: str | None
    body: str | None
    metadata: Mapping[str, Any]

    @classmethod
    def read(
        cls,
        answer: bytes,
        decision: Decision,
        *,
        sent: Mapping[str, str],
        identity: Iterable[str],
        token_header: str | None = None,
    ) -> Self:
        """Read the CheckResponse *answer* for *decision*; *identity* are the names of the identity headers.

        *token_header* is the header of the minted token.
        """
        response = wire.CheckResponse.FromString(answer)
        forwarded = _apply(response.ok_response, sent) if response.HasField("ok_response") else {}
        identity_names = set(map(_normalize, identity))
        reply = response.denied_response
        if response.HasField("error_response"):
            reply = response.error_response
        headers = {option.header.key: option.header.value for option in reply.headers}
        return cls(
            allowed=response.HasField("ok_response"),
            reason=decision.reason,
            detail=decision.detail,
            would_deny=isinstance(decision, Allow) and decision.would_deny,
            rule=decision.trail.rule,
            issuer=decision.trail.issuer,
            subject=decision.trail.subject,
            headers={name: value for name, value in forwarded.items() if _normalize(name) in identity_names},
            upstream_token=_read_token(response.ok_response, token_header),
            request_headers=forwarded,
            status=None if response.HasField("ok_response") else reply.status.code,
            challenge=headers.get("www-authenticate"),
            body=None if response.HasField("ok_response") else reply.body,
            metadata=MessageToDict(response.dynamic_metadata),
        )


def _read_token(ok: wire.OkHttpResponse, header: str | None) -> dict[str, Any]:
    """Return the claims of the token that was minted, not verified: it is our own."""
    for option in ok.headers:
        if option.header.key == header:
            claims: dict[str, Any] = json.loads(base64url.decode(option.header.value.split(".")[1].encode()))
            return claims
    return {}


def _normalize(name: str) -> str:
    """Replace `_` by `-`: an upstream may treat them as the same (CGI)."""
    return name.replace("_", "-")


def _apply(ok: wire.OkHttpResponse, sent: Mapping[str, str]) -> dict[str, str]:
    """Change the headers of a request as Envoy does: set first, remove last."""
    changed = {**sent, **{option.header.key: option.header.value for option in ok.headers}}
    return {name: value for name, value in changed.items() if name not in ok.headers_to_remove}
