"""Between Envoy's bytes and our values: CheckRequest to Request, Decision to CheckResponse.

Rules of this file:
1. `status.code` alone decides in Envoy, and an empty CheckResponse allows: a denial is made by one function, which
   always sets the code.
2. Every header to set says so in both ways, `append` and `append_action`: left unset, Envoy 1.37.0 appends.
3. A denial never uses `error_response` or a gRPC error, which `failure_mode_allow` would turn into an allow, unless the
   operator chose that for unavailable keys.
4. For gRPC callers Envoy turns a denial into trailers: short plain text, and a `grpc-status` that fits.
5. A document that is answered in the upstream's place goes as a denial with HTTP status 200: Envoy knows no other way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue

from authz.core.challenge import write_challenge
from authz.core.decision import Allow, Decision, Deny, outcome
from authz.core.reasons import ANSWERS, Reason, Rejected
from authz.core.request import MAX_HEADERS, Request
from authz.core.snapshot import BodyFormat, Responses, Unavailable
from authz.envoy import ext_authz_pb2 as wire

_OVERWRITE: Final = wire.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_NO_APPEND: Final = BoolValue(value=False)
_UNAVAILABLE: Final = 14  # google.rpc.Code; with OK an error_response would allow


def decode_request(data: bytes) -> Request:
    """Read the bytes of a CheckRequest. What is missing stays empty, for the core to judge.

    Raises Rejected(REQUEST_MALFORMED) where *data* is no such message.
    """
    try:
        attributes = wire.CheckRequest.FromString(data).attributes
    except DecodeError:
        raise Rejected(Reason.REQUEST_MALFORMED, "not a CheckRequest") from None
    http = attributes.request.http
    source = attributes.source
    return Request(
        method=http.method,
        host=http.host,
        path=http.path,
        scheme=http.scheme,
        protocol=http.protocol,
        headers=_read_headers(http),
        context=dict(attributes.context_extensions),
        source_address=source.address.socket_address.address,
        certificate=source.certificate,
    )


def _read_headers(http: wire.AttributeContext.HttpRequest) -> dict[str, str]:
    """Return the headers by lower-case name, from the map and, with `encode_raw_headers`, from the list."""
    if len(http.header_map.headers) > MAX_HEADERS:
        raise Rejected(Reason.REQUEST_MALFORMED, f"more than {MAX_HEADERS} headers")
    headers = dict(http.headers)
    for entry in http.header_map.headers:
        name = entry.key.lower()
        value = entry.value or entry.raw_value.decode("utf-8", "replace")
        if name in headers:
            # RFC 9110 section 5.3; cookies alone are joined by a semicolon (RFC 9113 section 8.2.3).
            value = f"{headers[name]}{'; ' if name == 'cookie' else ','}{value}"
        headers[name] = value
    return headers


def encode_decision(decision: Decision, request: Request | None, responses: Responses, decision_id: str) -> bytes:
    """Write the CheckResponse for *decision*; *request* is None where it could not be read."""
    if isinstance(decision, Deny):
        return _encode_deny(decision, request, responses, decision_id)
    if decision.document is not None:
        return _encode_document(decision.document, decision, decision_id)
    message = wire.CheckResponse(
        status=wire.Status(code=ANSWERS[Reason.AUTHENTICATED].code),
        ok_response=wire.OkHttpResponse(
            headers=_options(decision.set_headers),
            headers_to_remove=decision.remove_headers,
            query_parameters_to_remove=decision.drop_query,
        ),
        dynamic_metadata=_metadata(decision, decision_id),
    )
    return message.SerializeToString()


def _encode_document(document: str, decision: Allow, decision_id: str) -> bytes:
    headers = [("content-type", "application/json"), ("cache-control", "max-age=300")]
    answer = wire.DeniedHttpResponse(
        status=wire.HttpStatus(code=HTTPStatus.OK), headers=_options(headers), body=document
    )
    message = wire.CheckResponse(
        status=wire.Status(code=ANSWERS[Reason.POLICY_DENIED].code),  # with OK the request would go upstream
        denied_response=answer,
        dynamic_metadata=_metadata(decision, decision_id),
    )
    return message.SerializeToString()


def _encode_deny(denial: Deny, request: Request | None, responses: Responses, decision_id: str) -> bytes:
    answer = ANSWERS[denial.reason]
    if answer.code == ANSWERS[Reason.AUTHENTICATED].code:
        raise ValueError(f"{denial.reason.value} is no reason to deny")  # Envoy would let it pass
    headers = [("cache-control", "no-store")]
    metadata_url = responses.resource.url if responses.resource is not None else None
    challenge = write_challenge(denial, realm=responses.realm, resource_metadata=metadata_url)
    if challenge is not None:
        headers.append(("www-authenticate", challenge))
    if answer.retry_after is not None:
        headers.append(("retry-after", str(answer.retry_after)))
    if request is not None and request.headers.get("content-type", "").startswith("application/grpc"):
        headers.append(("grpc-status", str(answer.grpc)))
        body = _text(denial, responses, decision_id)
    elif responses.body is BodyFormat.TEXT:
        headers.append(("content-type", "text/plain; charset=utf-8"))
        body = _text(denial, responses, decision_id) + "\n"
    else:
        headers.append(("content-type", "application/problem+json"))
        body = _problem(denial, responses, decision_id)
    refusal = wire.DeniedHttpResponse(status=wire.HttpStatus(code=answer.http), headers=_options(headers), body=body)
    metadata = _metadata(denial, decision_id)
    if _fails_open(denial, responses):
        status = wire.Status(code=_UNAVAILABLE)
        message = wire.CheckResponse(status=status, error_response=refusal, dynamic_metadata=metadata)
    else:
        status = wire.Status(code=answer.code)
        message = wire.CheckResponse(status=status, denied_response=refusal, dynamic_metadata=metadata)
    return message.SerializeToString()


def _fails_open(denial: Deny, responses: Responses) -> bool:
    """Tell whether the operator lets Envoy decide: only while an issuer has no keys at all.

    An unknown key id makes its issuer refresh; were that moment an error too, anybody could choose it.
    """
    unavailable = denial.reason is Reason.KEYS_UNAVAILABLE and not denial.may_change
    return unavailable and responses.unavailable is Unavailable.ERROR


def _options(headers: Iterable[tuple[str, str]]) -> list[wire.HeaderValueOption]:
    return [
        wire.HeaderValueOption(
            header=wire.HeaderValue(key=name, value=value), append=_NO_APPEND, append_action=_OVERWRITE
        )
        for name, value in headers
    ]


def _title(denial: Deny) -> tuple[int, str]:
    status = HTTPStatus(ANSWERS[denial.reason].http)
    return status.value, status.phrase


def _problem(denial: Deny, responses: Responses, decision_id: str) -> str:
    """RFC 9457; with type about:blank the title is the status's phrase."""
    status, title = _title(denial)
    problem = {"type": "about:blank", "title": title, "status": status, "decision_id": decision_id}
    if responses.expose_reason:
        problem["reason"] = denial.reason.value
    return json.dumps(problem)


def _text(denial: Deny, responses: Responses, decision_id: str) -> str:
    reason = f" ({denial.reason.value})" if responses.expose_reason else ""
    return f"{_title(denial)[1]}{reason}, decision {decision_id}"


def _metadata(decision: Decision, decision_id: str) -> Struct:
    """Write the dynamic metadata; claims lie below `claims`, where they can forge nothing."""
    findings = decision.findings
    told: dict[str, Any] = {
        "decision": outcome(decision),
        "decision_id": decision_id,
        "reason": decision.reason.value,
        "rule": findings.rule,
        "issuer": findings.issuer,
        "subject": findings.subject,
    }
    metadata = Struct()
    if isinstance(decision, Allow) and decision.claims:
        told["claims"] = dict(decision.claims)
    metadata.update({name: value for name, value in told.items() if value is not None})
    return metadata
