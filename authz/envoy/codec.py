"""Decode Envoy's CheckRequest to a Request, and encode a Decision as a CheckResponse.

Rules of this file:
1. Envoy evaluates only `status.code`, and an empty CheckResponse is an allow: all denials are encoded by one function,
   which always sets the code.
2. Every header to set has both `append` and `append_action`: if they are unset, Envoy overwrites and grpc-java appends.
3. A denial never uses `error_response` or a gRPC error, which `failure_mode_allow` would turn into an allow, unless the
   operator chose that for unavailable keys.
4. For gRPC clients Envoy turns a denial into trailers: short plain text, and a matching `grpc-status`. gRPC's
   own ext_authz filter (gRFC A92) derives its status from the HTTP status, fails if we send `grpc-status`, and passes
   only `status.message` to its application. It sends neither scheme nor host; Envoy always sends both.
5. A document that the sidecar serves itself is sent as a denial with HTTP status 200: Envoy has no other way.
6. A message is encoded in parts, and parts that many responses share are cached: the concatenation of two encoded
   messages decodes to the merged message (Protocol Buffers, "Encoding": last one wins, embedded messages merge).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import BoolValue

from authz.core.challenge import write_challenge
from authz.core.decision import Allow, Decision, Deny, outcome
from authz.core.published_document import is_current
from authz.core.reasons import WIRE_STATUS, Reason, Rejected
from authz.core.request import MAX_HEADERS, Request, join_headers
from authz.core.snapshot import BodyFormat, Responses, Unavailable
from authz.envoy import ext_authz_pb2 as wire

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_OVERWRITE: Final = wire.HeaderValueOption(
    append=BoolValue(value=False), append_action=wire.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
).SerializeToString()
_METADATA_CACHE: Final = 4096  # encoded parts that are cached, of about 200 bytes each
_CALLER_CACHE: Final = 1024  # encoded parts of about 300 bytes each, at most 8 KB of headers and a subject
_ID_PREFIX_CACHE: Final = 8  # lengths of decision ids: all have the same
_OK_PREFIX_CACHE: Final = 64  # parts of up to 64 KB each: 64 headers with 32 spellings
_TEXT: Final = frozenset({str})
_UNAVAILABLE: Final = 14  # google.rpc.Code; with OK, an error_response is an allow


def decode_request(data: bytes) -> Request:
    """Decode the bytes of a CheckRequest. Missing fields stay empty; the core evaluates them.

    Raises Rejected(REQUEST_MALFORMED) if *data* is not a CheckRequest.
    """
    try:
        attributes = wire.CheckRequest.FromString(data).attributes
    except DecodeError:
        raise Rejected(Reason.REQUEST_MALFORMED, "not a CheckRequest") from None
    http = attributes.request.http
    source = attributes.source
    headers = _read_headers(http)
    context = attributes.context_extensions
    return Request(
        method=http.method,
        host=http.host or headers.get(":authority", ""),
        path=http.path,
        scheme=http.scheme,
        protocol=http.protocol,
        headers=headers,
        context=dict(context) if context else {},  # to copy an empty map takes as long as to copy a filled one
        source_address=source.address.socket_address.address,
        certificate=source.certificate,
    )


def _read_headers(http: wire.AttributeContext.HttpRequest) -> Mapping[str, str]:
    """Return the headers by lower-case name, from the map and, with `encode_raw_headers`, from the list.

    The message's own map is not copied, because only a few headers are read.
    """
    if not http.HasField("header_map"):
        return http.headers
    if len(http.header_map.headers) > MAX_HEADERS:
        raise Rejected(Reason.REQUEST_MALFORMED, f"more than {MAX_HEADERS} headers")
    raw = (
        (header.key, header.value or header.raw_value.decode("utf-8", "replace")) for header in http.header_map.headers
    )
    return join_headers([*http.headers.items(), *raw])


def encode_decision(decision: Decision, request: Request | None, responses: Responses, decision_id: str) -> bytes:
    """Encode the CheckResponse for *decision*; *request* is None if it could not be decoded."""
    if isinstance(decision, Deny):
        return _encode_deny(decision, request, responses, decision_id)
    if decision.document is not None:
        return _encode_document(decision.document, decision, request, decision_id)
    trail, claims = decision.trail, decision.claims
    # Only strings are safe in the key of a cache: other values may be equal but not the same, such as 1 and true.
    cacheable = trail.signature_cached and set(map(type, claims.values())) <= _TEXT
    encode = _encode_caller_cached if cacheable else _encode_caller
    caller = encode(decision.set_headers, decision.drop_query, trail.subject, trail.client, tuple(claims.items()))
    return _ok_prefix(decision.remove_headers) + caller + _metadata(decision, decision_id)


def _encode_caller(
    headers: tuple[tuple[str, str], ...],
    drop_query: tuple[str, ...],
    subject: str | None,
    client: str | None,
    copied: tuple[tuple[str, object], ...],
) -> bytes:
    """Encode the part of an OkHttpResponse and of its metadata that depends on the caller."""
    message = wire.CheckResponse()
    _add(message.ok_response.headers, headers)
    message.ok_response.query_parameters_to_remove.extend(drop_query)
    _name_caller(message, subject, client)
    if copied:
        _copy_claims(message, copied)
    return message.SerializeToString()


# Only for tokens that were seen before: unverified tokens, and those that are used once, would evict them.
_encode_caller_cached: Final = lru_cache(maxsize=_CALLER_CACHE)(_encode_caller)


@lru_cache(maxsize=_OK_PREFIX_CACHE)
def _ok_prefix(remove: tuple[str, ...]) -> bytes:
    """Encode the part of an OkHttpResponse that is the same for many requests."""
    return wire.CheckResponse(
        status=wire.Status(code=WIRE_STATUS[Reason.AUTHENTICATED].code),
        ok_response=wire.OkHttpResponse(headers_to_remove=remove),
    ).SerializeToString()


def _with_metadata(message: wire.CheckResponse, decision: Decision, decision_id: str) -> bytes:
    """Encode *message* with the dynamic metadata."""
    _name_caller(message, decision.trail.subject, decision.trail.client)
    return message.SerializeToString() + _metadata(decision, decision_id)


def _name_caller(message: wire.CheckResponse, subject: str | None, client: str | None) -> None:
    """Add subject and client to the metadata of *message*."""
    if subject is None and client is None:
        return
    fields = message.dynamic_metadata.fields
    if subject is not None:
        fields["subject"].string_value = subject
    # Only one of `client` and `person` is set, so that rate limits can tell machines from people.
    if client is not None:
        fields["client"].string_value = client
    elif subject is not None:
        fields["person"].string_value = subject


def _copy_claims(message: wire.CheckResponse, copied: Iterable[tuple[str, object]]) -> None:
    """Add claims to the metadata of *message*, in `claims`, so that they cannot replace other fields."""
    claims = message.dynamic_metadata.fields["claims"].struct_value
    for name, value in copied:
        if isinstance(value, str):
            claims.fields[name].string_value = value  # the same as the next line, but twice as fast
        else:
            claims[name] = cast("Any", value)


def _metadata(decision: Decision, decision_id: str) -> bytes:
    """Encode the metadata that does not depend on the caller."""
    trail = decision.trail
    static = _static_metadata(outcome(decision), decision.reason, trail.rule, trail.issuer)
    data = decision_id.encode()
    return static + _id_prefix(len(data)) + data


@lru_cache(maxsize=_ID_PREFIX_CACHE)
def _id_prefix(length: int) -> bytes:
    """Encode the field of a decision id of *length* octets up to the id itself, which comes last."""
    message = wire.CheckResponse()
    message.dynamic_metadata.fields["decision_id"].string_value = "0" * length
    return message.SerializeToString().removesuffix(b"0" * length)


@lru_cache(maxsize=_METADATA_CACHE)
def _static_metadata(decided: str, reason: Reason, rule: str | None, issuer: str | None) -> bytes:
    """Encode the part of the metadata that is the same for many requests: configured names only."""
    values = {"decision": decided, "reason": reason.value, "rule": rule, "issuer": issuer}
    message = wire.CheckResponse()
    message.dynamic_metadata.update({name: text for name, text in values.items() if text is not None})
    return message.SerializeToString()


def _encode_document(document: str, decision: Allow, request: Request | None, decision_id: str) -> bytes:
    """Encode *document*, or 304 if the client has it (RFC 9110 section 15.4.5)."""
    headers = [("cache-control", f"max-age={decision.max_age}")]
    if decision.etag is not None:
        headers.append(("etag", decision.etag))
    cached_etag = request.headers.get("if-none-match") if request is not None else None
    unchanged = decision.etag is not None and is_current(cached_etag, decision.etag)
    if not unchanged:
        headers.insert(0, ("content-type", "application/json"))
    message = wire.CheckResponse(
        status=wire.Status(code=WIRE_STATUS[Reason.POLICY_DENIED].code),  # with OK the request would go upstream
        denied_response=wire.DeniedHttpResponse(
            status=wire.HttpStatus(code=HTTPStatus.NOT_MODIFIED if unchanged else HTTPStatus.OK),
            body="" if unchanged else document,
        ),
    )
    _add(message.denied_response.headers, headers)
    return _with_metadata(message, decision, decision_id)


def _encode_deny(denial: Deny, request: Request | None, responses: Responses, decision_id: str) -> bytes:
    status = WIRE_STATUS[denial.reason]
    if status.code == WIRE_STATUS[Reason.AUTHENTICATED].code:
        raise ValueError(f"{denial.reason.value} is not a reason to deny")  # Envoy would allow the request
    headers = [("cache-control", "no-store")]
    metadata_url = responses.resource.url if responses.resource is not None else None
    challenge = write_challenge(
        denial,
        realm=responses.realm,
        resource_metadata=metadata_url,
        proof_algorithms=responses.proof_algorithms,
    )
    if challenge is not None:
        headers.append(("www-authenticate", challenge))
    if denial.nonce is not None:
        headers.append(("dpop-nonce", denial.nonce))
    retry_after = status.retry_after if denial.retry_after is None else denial.retry_after
    if retry_after is not None:
        headers.append(("retry-after", str(retry_after)))
    text = _text(denial, responses, decision_id)
    if request is not None and request.headers.get("content-type", "").startswith("application/grpc"):
        if not _is_from_grpc_server(request):
            headers.append(("grpc-status", str(status.grpc)))
        body = text
    elif responses.body is BodyFormat.TEXT:
        headers.append(("content-type", "text/plain; charset=utf-8"))
        body = text + "\n"
    else:
        headers.append(("content-type", "application/problem+json"))
        body = _problem(denial, responses, decision_id)
    response = wire.DeniedHttpResponse(status=wire.HttpStatus(code=status.http), body=body)
    _add(response.headers, headers)
    if _fails_open(denial, responses):
        message = wire.CheckResponse(status=wire.Status(code=_UNAVAILABLE, message=text), error_response=response)
    else:
        message = wire.CheckResponse(status=wire.Status(code=status.code, message=text), denied_response=response)
    return _with_metadata(message, denial, decision_id)


def _is_from_grpc_server(request: Request) -> bool:
    """Return whether the request comes from the filter of gRPC itself (gRFC A92), and not from Envoy.

    Such a server sends no scheme, and of the pseudo-headers only `:authority`; Envoy sends all of them.
    """
    only_authority = request.headers.get(":authority") is not None and request.headers.get(":path") is None
    return not request.scheme and (only_authority or not request.host)


def _fails_open(denial: Deny, responses: Responses) -> bool:
    """Return whether to send an error, which `failure_mode_allow` applies to: only while an issuer has no keys.

    A retryable denial is never an error, because any client can cause one with an unknown key id.
    """
    unavailable = denial.reason is Reason.KEYS_UNAVAILABLE and not denial.retryable
    return unavailable and responses.unavailable is Unavailable.ERROR


def _add(options: RepeatedCompositeFieldContainer[wire.HeaderValueOption], headers: Iterable[tuple[str, str]]) -> None:
    """Add *headers* to *options*; each overwrites an existing header."""
    for name, value in headers:
        option = options.add()
        option.MergeFromString(_OVERWRITE)
        header = option.header
        header.key = name
        header.value = value


def _title(denial: Deny) -> tuple[int, str]:
    status = HTTPStatus(WIRE_STATUS[denial.reason].http)
    return status.value, status.phrase


def _problem(denial: Deny, responses: Responses, decision_id: str) -> str:
    """Return problem details (RFC 9457); with type about:blank the title is the status's phrase."""
    status, title = _title(denial)
    problem = {"type": "about:blank", "title": title, "status": status, "decision_id": decision_id}
    if denial.message:
        problem["detail"] = denial.message
    if responses.expose_reason:
        problem["reason"] = denial.reason.value
    return json.dumps(problem)


def _text(denial: Deny, responses: Responses, decision_id: str) -> str:
    reason = f" ({denial.reason.value})" if responses.expose_reason else ""
    message = f": {denial.message}" if denial.message else ""
    return f"{_title(denial)[1]}{reason}, decision {decision_id}{message}"
