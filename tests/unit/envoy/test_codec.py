"""Proves authz.envoy.codec: what Envoy sends is read whole, and no answer can be taken for more than it is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.authorize import authorize
from authz.core.claims import ClaimPath
from authz.core.decision import Allow, AuditTrail, Deny, as_unanswered
from authz.core.identity import Identity, MetadataClaim
from authz.core.needs import KEY, Need
from authz.core.reasons import WIRE_STATUS, Reason, Rejected
from authz.core.request import Request
from authz.core.snapshot import BodyFormat, Responses, Unavailable
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.codec import decode_request, encode_decision
from tests.fixtures import DEFAULT_SNAPSHOT, T, ask, decide, header, make_snapshot, mint, rule
from tests.unit.envoy.asking import ID, headers_of, read, told, write_check

ALLOWS = (Reason.AUTHENTICATED, Reason.ANONYMOUS, Reason.PUBLIC)
REFUSALS = tuple(reason for reason in Reason if reason not in ALLOWS)
GRPC = ask(headers={"content-type": "application/grpc"})

# HTTP status, google.rpc.Code, grpc-status, error of the challenge ("" for none in it, None for no challenge).
INVALID_TOKEN = (401, 16, 16, "invalid_token")
EXPECTED = {
    Reason.TOKEN_MISSING: (401, 16, 16, ""),
    Reason.TOKEN_MULTIPLE: (400, 7, 3, "invalid_request"),
    Reason.PROOF_INVALID: (401, 16, 16, "invalid_dpop_proof"),
    Reason.NONCE_REQUIRED: (401, 16, 16, "use_dpop_nonce"),
    Reason.STEP_UP_REQUIRED: (401, 16, 16, "insufficient_user_authentication"),
    Reason.INSUFFICIENT_SCOPE: (403, 7, 7, "insufficient_scope"),
    Reason.POLICY_DENIED: (403, 7, 7, None),
    Reason.PDP_DENIED: (403, 7, 7, None),
    Reason.RISK_DENIED: (403, 7, 7, None),
    Reason.HEADER_UNSAFE: (403, 7, 7, None),
    Reason.UPSTREAM_TOKEN_REFUSED: (403, 7, 7, None),
    Reason.REQUEST_MALFORMED: (400, 7, 3, None),
    Reason.PATH_AMBIGUOUS: (400, 7, 3, None),
    Reason.KEYS_UNAVAILABLE: (503, 7, 14, None),
    Reason.INTROSPECTION_UNAVAILABLE: (503, 7, 14, None),
    Reason.PDP_UNAVAILABLE: (503, 7, 14, None),
    Reason.REVOCATIONS_UNAVAILABLE: (503, 7, 14, None),
    Reason.RISK_UNAVAILABLE: (503, 7, 14, None),
    Reason.THROTTLED: (429, 7, 8, None),
    Reason.UPSTREAM_TOKEN_UNAVAILABLE: (503, 7, 14, None),
    Reason.OVERLOADED: (503, 7, 14, None),
    Reason.INTERNAL_ERROR: (500, 7, 13, None),
}


def http(**fields: object) -> Request:
    """Decode a CheckRequest whose HTTP part has these *fields*."""
    part = wire.AttributeContext.HttpRequest(**fields)  # type: ignore[arg-type]
    attributes = wire.AttributeContext(request=wire.AttributeContext.Request(http=part))
    return decode_request(wire.CheckRequest(attributes=attributes).SerializeToString())


def header_list(*entries: tuple[str, bytes]) -> wire.HeaderMap:
    """Headers as Envoy lists them with `encode_raw_headers`."""
    return wire.HeaderMap(headers=[wire.HeaderValue(key=name, raw_value=value) for name, value in entries])


def refuse(
    reason: Reason,
    request: Request | None = ask(),  # noqa: B008 - immutable
    responses: Responses = Responses(),  # noqa: B008 - immutable
    **trail: str,
) -> wire.CheckResponse:
    """Encode a denial for *reason*, with details that are for the operator alone."""
    denial = Deny(reason, AuditTrail(**trail), detail="for the operator alone")  # type: ignore[arg-type]
    return read(encode_decision(denial, request, responses, ID))


def allow(**fields: object) -> wire.CheckResponse:
    """Encode an Allow with these *fields*."""
    given = {"reason": Reason.AUTHENTICATED, "trail": AuditTrail(), **fields}
    return read(encode_decision(Allow(**given), ask(), Responses(), ID))  # type: ignore[arg-type]


# Requests.


def test_an_empty_request_is_read_as_nothing_and_refused() -> None:
    """A default CheckRequest says nothing; the core calls it malformed."""
    request = decode_request(b"")

    assert request == Request()
    assert authorize(request, DEFAULT_SNAPSHOT, T).reason is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"\x0a", b"\x0a\x7f", write_check()[:-1], b"\x0a\x06\x22\x04\x12\x02\x12\xff", b"\x0b" * 2000],
    ids=["no field", "no length", "too short", "cut", "length beyond", "endless groups"],
)
def test_bytes_that_are_no_request_are_malformed(data: bytes) -> None:
    """Undecodable bytes are a refusal with a reason, and no RPC error."""
    with pytest.raises(Rejected) as raised:
        decode_request(data)
    assert raised.value.reason is Reason.REQUEST_MALFORMED


def test_text_that_is_not_utf_8_is_malformed() -> None:
    """A string field with other bytes in it is no CheckRequest."""
    data = write_check(ask(path="/items/XYZ")).replace(b"XYZ", b"\xc3\x28X")
    with pytest.raises(Rejected):
        decode_request(data)


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=60))
def test_no_bytes_raise_anything_else(noise: bytes, at: int) -> None:
    """Whatever the bytes, the outcome is a Request or a Rejected."""
    good = write_check(ask("a.b.c"))
    for data in (noise, good[:at] + noise + good[at:]):
        try:
            decode_request(data)
        except Rejected as rejected:
            assert rejected.reason is Reason.REQUEST_MALFORMED  # noqa: PT017 - it need not raise


def test_every_attribute_that_is_judged_is_read() -> None:
    """Method, host, path, scheme, protocol, headers, context, address and certificate arrive as they were sent."""
    request = Request(
        method="PUT",
        host="api.test:8443",
        path="/items/1?q=2",
        scheme="https",
        protocol="HTTP/2",
        headers={":method": "PUT", "x-request-id": "r1", "authorization": "Bearer a,Bearer b"},
        context={"authz.rule": "partner"},
        source_address="192.0.2.1",
        certificate="-----BEGIN%20CERTIFICATE-----",
    )

    assert decode_request(write_check(request)) == request


def test_nothing_else_is_read() -> None:
    """Query, fragment, body and metadata of a request have no say: the path carries the query, the body is opaque."""
    assert http(path="/a", query="access_token=x", fragment="f", body="{}", size=2) == Request(path="/a")


def test_a_caller_on_a_pipe_has_no_address() -> None:
    """A downstream Unix socket is no address, and no trouble."""
    peer = wire.AttributeContext.Peer(address=wire.Address(pipe=wire.Pipe(path="/run/x.sock")))
    data = wire.CheckRequest(attributes=wire.AttributeContext(source=peer)).SerializeToString()
    assert decode_request(data).source_address == ""


def test_raw_headers_are_read_where_the_map_is_empty() -> None:
    """With encode_raw_headers, names become lower case and values text."""
    request = http(header_map=header_list(("Authorization", b"Bearer x"), (":Path", b"/a"), ("x-empty", b"")))
    assert request.headers == {"authorization": "Bearer x", ":path": "/a", "x-empty": ""}


def test_both_forms_of_a_header_are_read() -> None:
    """Value and raw_value both count, and so do the map and the list: nothing is hidden in the other one."""
    entries = [wire.HeaderValue(key="a", value="text"), wire.HeaderValue(key="b", raw_value=b"raw")]
    request = http(headers={"b": "map", "c": "map"}, header_map=wire.HeaderMap(headers=entries))
    assert request.headers == {"a": "text", "b": "map,raw", "c": "map"}


def test_repeated_headers_are_joined_as_envoy_does() -> None:
    """Repeated fields are joined by a comma, in any case of their name; cookies by a semicolon."""
    entries = header_list(
        ("authorization", b"Bearer a"), ("Authorization", b"Bearer b"), ("cookie", b"a=1"), ("Cookie", b"b=2")
    )
    assert http(header_map=entries).headers == {"authorization": "Bearer a,Bearer b", "cookie": "a=1; b=2"}


def test_two_raw_credentials_are_two() -> None:
    """A second Authorization header in the list is evaluated like one that Envoy merged."""
    entries = header_list(*(("authorization", f"Bearer {mint()}".encode()) for _ in range(2)))
    request = http(method="GET", host="api.test", path="/items/1", header_map=entries)
    assert authorize(request, DEFAULT_SNAPSHOT, T).reason is Reason.TOKEN_MULTIPLE


def test_raw_bytes_that_are_no_text_are_replaced() -> None:
    """Bytes outside UTF-8 become a character that no token, host or path can hold."""
    assert http(header_map=header_list(("authorization", b"Bearer \xff\x00"))).headers == {
        "authorization": "Bearer \ufffd\x00"
    }


def test_a_header_without_a_name_reaches_the_core() -> None:
    """Nothing is tidied away on the way: a nameless header is for the core to refuse."""
    request = http(method="GET", host="api.test", path="/public", header_map=header_list(("", b"x")))
    assert authorize(request, DEFAULT_SNAPSHOT, T).reason is Reason.REQUEST_MALFORMED


# Allows.


def test_an_allow_overwrites_and_removes() -> None:
    """Headers to set say so in both ways, in `value`; names to remove and parameters to drop go along."""
    message = allow(set_headers=(("x-user-id", "bob"),), remove_headers=("x_user_id",), drop_query=("access_token",))

    assert message.status.code == 0
    assert message.WhichOneof("http_response") == "ok_response"
    (option,) = message.ok_response.headers
    assert (option.header.key, option.header.value, option.header.raw_value) == ("x-user-id", "bob", b"")
    assert_overwrites(option)
    assert list(message.ok_response.headers_to_remove) == ["x_user_id"]
    assert list(message.ok_response.query_parameters_to_remove) == ["access_token"]


def assert_overwrites(option: wire.HeaderValueOption) -> None:
    """Left unset, either of these appends in some version of Envoy, behind what the client forged."""
    assert option.HasField("append")
    assert not option.append.value
    assert option.append_action == wire.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


@pytest.mark.parametrize("path", ["/items/1", "/mixed/1", "/public/1"])
@pytest.mark.parametrize("token", [None, mint(), mint(groups=[])], ids=["anonymous", "bob", "without groups"])
def test_no_name_is_both_set_and_removed(path: str, token: str | None) -> None:
    """Envoy removes last, so a name in both would not arrive; and every identity header is in one of them."""
    decision = decide(token, path=path)
    if isinstance(decision, Deny):
        return
    message = read(encode_decision(decision, ask(), Responses(), ID))
    added = {option.header.key for option in message.ok_response.headers}
    removed = set(message.ok_response.headers_to_remove)
    assert added.isdisjoint(removed)
    assert added | removed >= {"x-user-id", "x_user_id", "x-user_id", "x_user-id", "x-user-groups"}


@pytest.mark.parametrize("reason", Reason)
def test_a_shadow_lets_pass_whatever_it_would_say(reason: Reason) -> None:
    """The word of a shadow's refusal goes into the metadata, and never into the status."""
    message = allow(reason=reason, would_deny=True)
    assert (message.status.code, message.WhichOneof("http_response")) == (0, "ok_response")
    assert (told(message), told(message, "decision")) == (reason, "would_deny")


# Denials.


@pytest.mark.parametrize("request_", [ask(), GRPC, None], ids=["http", "grpc", "unread"])
@pytest.mark.parametrize("responses", [Responses(), Responses(unavailable=Unavailable.ERROR)], ids=["deny", "error"])
@pytest.mark.parametrize("reason", REFUSALS)
def test_no_denial_is_ok(reason: Reason, responses: Responses, request_: Request | None) -> None:
    """`status.code` alone decides: every reason has an answer, and none of them carries 0."""
    message = refuse(reason, request_, responses)
    assert reason in WIRE_STATUS
    assert message.status.code in {7, 14, 16}
    assert not message.HasField("ok_response")


@pytest.mark.parametrize("reason", ALLOWS)
def test_a_denial_for_a_reason_to_allow_is_no_answer(reason: Reason) -> None:
    """A denial that says "public" would be let pass by Envoy: it is a defect, and is never written."""
    with pytest.raises(ValueError, match=reason):
        refuse(reason)


@pytest.mark.parametrize("reason", REFUSALS)
def test_each_reason_says_on_the_wire_what_the_table_says(reason: Reason) -> None:
    """Status, codes, challenge and Retry-After of each refusal; its headers overwrite, and nothing is cached."""
    status, code, grpc, error = EXPECTED.get(reason, INVALID_TOKEN)
    message = refuse(reason)
    said = headers_of(message)

    assert (message.denied_response.status.code, message.status.code) == (status, code)
    challenge = {None: None, "": 'Bearer realm="api"'}.get(error, f'Bearer realm="api", error="{error}"')
    assert said.get("www-authenticate") == challenge
    assert said.get("retry-after") == ("1" if status in {429, 503} else None)
    assert said["cache-control"] == "no-store"
    assert headers_of(refuse(reason, GRPC))["grpc-status"] == str(grpc)
    for option in message.denied_response.headers:
        assert_overwrites(option)
        assert option.header.value.isascii()
        assert option.header.value.isprintable()
        assert not option.header.raw_value


def test_the_challenge_says_what_would_do() -> None:
    """Scopes, acr values and age that are missing stand in the challenge."""
    wanted = Deny(Reason.STEP_UP_REQUIRED, acr_values=("urn:mfa",), max_age=60)
    message = read(encode_decision(wanted, ask(), Responses(realm='the "api"'), ID))
    assert headers_of(message)["www-authenticate"] == (
        'Bearer realm="the \\"api\\"", error="insufficient_user_authentication", acr_values="urn:mfa", max_age="60"'
    )


def test_a_client_gets_a_problem_document() -> None:
    """RFC 9457: type, title, status and the id by which an operator finds the decision; no more."""
    message = refuse(Reason.SIGNATURE_INVALID)
    assert headers_of(message)["content-type"] == "application/problem+json"
    assert json.loads(message.denied_response.body) == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "decision_id": ID,
    }


def test_a_client_may_get_text() -> None:
    """One line of plain text, where the operator wants that."""
    message = refuse(Reason.OVERLOADED, responses=Responses(body=BodyFormat.TEXT))
    assert headers_of(message)["content-type"] == "text/plain; charset=utf-8"
    assert message.denied_response.body == f"Service Unavailable, decision {ID}\n"


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc-web"])
@pytest.mark.parametrize("reason", REFUSALS)
def test_a_grpc_caller_gets_short_plain_text(reason: Reason, kind: str) -> None:
    """Envoy makes it the grpc-message: one short line, no JSON, and a content type is not ours to set."""
    for body in BodyFormat:
        message = refuse(reason, ask(headers={"content-type": kind}), Responses(body=body, expose_reason=True))
        text = message.denied_response.body
        assert ID in text
        assert text.isprintable()
        assert len(text) < 100
        assert "{" not in text
        assert "content-type" not in headers_of(message)


@pytest.mark.parametrize("kind", ["application/json", "text/plain; application/grpc", ""])
def test_other_callers_are_no_grpc_callers(kind: str) -> None:
    """Without a gRPC content type there is no grpc-status to honour."""
    assert "grpc-status" not in headers_of(refuse(Reason.TOKEN_MISSING, ask(headers={"content-type": kind})))


def test_a_head_request_is_answered_like_a_get() -> None:
    """Envoy leaves out the body; status and headers are the same."""
    assert refuse(Reason.TOKEN_MISSING, ask(method="HEAD")) == refuse(Reason.TOKEN_MISSING, ask(method="GET"))


@pytest.mark.parametrize("body", BodyFormat)
@pytest.mark.parametrize("request_", [ask(mint()), replace(GRPC, headers={**GRPC.headers, "authorization": "s3cret"})])
@pytest.mark.parametrize("reason", REFUSALS)
def test_the_client_learns_no_reason(reason: Reason, request_: Request, body: BodyFormat) -> None:
    """Neither reason nor detail, rule, issuer, kid, subject or token are in what a client gets."""
    private = {"rule": "the-rule", "issuer": "the-issuer", "alg": "the-alg", "kid": "the-kid", "subject": "the-subject"}
    response = refuse(reason, request_, Responses(body=body), **private).denied_response.SerializeToString()
    text = response.decode("utf-8", "replace").replace('error="insufficient_scope"', "")  # the RFC's word is ours too

    assert reason not in text
    for secret in ("operator alone", *private.values(), request_.headers["authorization"]):
        assert secret not in text


@pytest.mark.parametrize(
    ("request_", "body"), [(ask(), BodyFormat.PROBLEM_JSON), (ask(), BodyFormat.TEXT), (GRPC, BodyFormat.TEXT)]
)
def test_the_reason_may_be_exposed_but_not_the_detail(request_: Request, body: BodyFormat) -> None:
    """With expose_reason the client gets one word of the vocabulary, and still no detail."""
    response = refuse(Reason.KEY_UNUSABLE, request_, Responses(body=body, expose_reason=True)).denied_response
    assert "key_unusable" in response.body
    assert "operator" not in response.body


@pytest.mark.parametrize("reason", REFUSALS)
def test_only_unavailable_keys_may_be_an_error(reason: Reason) -> None:
    """Where the operator chose it, and for nothing else, failure_mode_allow decides: code 14 in an error_response."""
    message = refuse(reason, responses=Responses(unavailable=Unavailable.ERROR))

    if reason is Reason.KEYS_UNAVAILABLE:
        assert (message.status.code, message.WhichOneof("http_response")) == (14, "error_response")
        assert (message.error_response.status.code, headers_of(message)["retry-after"]) == (503, "1")
    else:
        assert message.WhichOneof("http_response") == "denied_response"
        assert message.status.code in {7, 16}
    assert refuse(reason).WhichOneof("http_response") == "denied_response"


# Metadata.


def test_the_metadata_tells_envoy_what_was_found() -> None:
    """Decision, id, reason, rule, issuer and subject; what was not found is absent, and a kid never goes there."""
    full = refuse(Reason.TOKEN_EXPIRED, rule="items", issuer="a", subject="bob", kid="k", alg="ES256")
    assert dict(full.dynamic_metadata.items()) == {
        "decision": "deny",
        "decision_id": ID,
        "reason": "token_expired",
        "rule": "items",
        "issuer": "a",
        "subject": "bob",
        "person": "bob",
    }
    machine = refuse(Reason.TOKEN_EXPIRED, subject="svc", client="svc").dynamic_metadata
    assert (machine["client"], machine["subject"], "person" in set(machine.keys())) == ("svc", "svc", False)
    assert set(refuse(Reason.POLICY_DENIED).dynamic_metadata.keys()) == {"decision", "decision_id", "reason"}


def copied(**claims: object) -> wire.CheckResponse:
    """Judge a good token with these *claims*, all of them copied to the metadata, and read the answer."""
    identity = Identity(metadata=tuple(MetadataClaim(name, ClaimPath((name,))) for name in claims))
    request = ask(mint(claims=claims))
    decision = authorize(request, make_snapshot(identity=identity), T)
    return read(encode_decision(decision, request, Responses(), ID))


def test_claims_forge_nothing() -> None:
    """Claims that are called like our own words lie below `claims`; the sidecar's values stand."""
    forged = dict.fromkeys(("decision", "reason", "rule", "issuer", "subject", "decision_id", "claims"), "forged")
    message = copied(**forged)

    assert dict(told(message, "claims").items()) == forged
    assert (told(message), told(message, "decision"), told(message, "rule")) == ("authenticated", "allow", "items")
    assert (told(message, "issuer"), told(message, "subject"), told(message, "decision_id")) == ("a", "bob", ID)


def test_claims_of_any_type_are_copied() -> None:
    """Numbers become doubles, the largest that a token can hold too; lists, objects, booleans and empty ones stay."""
    huge = 10**39
    message = copied(n=7, f=1.5, big=huge, yes=True, no=False, text="Zoë 漢", list_=[1, "a", [None]], empty=[], none={})
    claims = told(message, "claims")

    assert [claims[name] for name in ("n", "f", "big")] == [7.0, 1.5, float(huge)]
    assert (claims["yes"], claims["no"], claims["text"]) == (True, False, "Zoë 漢")
    assert list(claims["list_"].items())[:2] == [1.0, "a"]
    assert len(claims["empty"]) == 0
    assert dict(claims["none"].items()) == {}


@pytest.mark.parametrize("shape", ["objects", "lists"])
def test_the_deepest_claim_can_still_be_read(shape: str) -> None:
    """Protobuf readers give up at 100 levels, which would be an error and may fail open: no token gets that far."""
    value: object = "deep"
    for _ in range(31):  # with the payload itself, as deep as a token may be
        value = {"a": value} if shape == "objects" else [value]
    assert told(copied(deep=value)) == "authenticated"


def test_no_claims_are_told_of_a_denial() -> None:
    """A refused request leaves no claims in the metadata, also where its token was good."""
    identity = Identity((header("x-user-id", "sub"),), metadata=(MetadataClaim("sub", ClaimPath(("sub",))),))
    denied = authorize(
        ask(mint(), path="/items"), make_snapshot(rule("r", "/items", scopes=("s",)), identity=identity), T
    )
    message = read(encode_decision(denied, ask(), Responses(), ID))
    assert told(message) == "insufficient_scope"
    assert told(message, "claims") is None


def test_a_refresh_that_a_token_caused_is_never_an_error() -> None:
    """An unknown key id makes its issuer refresh: were that an error to Envoy, any forged token could open the door."""
    waiting = as_unanswered(Deny(Reason.KEY_NOT_FOUND, AuditTrail(needs=(Need(KEY, "a", "k"),))))
    message = read(encode_decision(waiting, ask(), Responses(unavailable=Unavailable.ERROR), ID))
    assert waiting.reason is Reason.KEYS_UNAVAILABLE
    assert (message.status.code, message.WhichOneof("http_response")) == (7, "denied_response")


SEEN: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "as it is": ({}, {}),
    "another subject": ({"subject": "eve"}, {}),
    "no subject": ({"subject": None}, {}),
    "a client": ({"client": "cron"}, {}),
    "another rule": ({"rule": "other"}, {}),
    "another issuer": ({"issuer": "other"}, {}),
    "another header": ({}, {"set_headers": (("x-user", "eve"),)}),
    "another name of a header": ({}, {"set_headers": (("x-other", "bob"),)}),
    "no header": ({}, {"set_headers": ()}),
    "other headers removed": ({}, {"remove_headers": ("x_user", "x-more")}),
    "parameters removed": ({}, {"drop_query": ("token",)}),
    "in shadow": ({}, {"would_deny": True, "reason": Reason.TOKEN_EXPIRED}),
    "claims": ({}, {"claims": {"sub": "bob", "scope": "read"}}),
    "another value of a claim": ({}, {"claims": {"sub": "bob", "scope": "write"}}),
    "a number": ({}, {"claims": {"n": 1}}),
    "a truth": ({}, {"claims": {"n": True}}),
    "a list": ({}, {"claims": {"n": ["1"]}}),
}


def write_allow(name: str, *, seen: bool) -> bytes:
    """Encode that allow, of a token that was seen before or not."""
    of_trail, of_allow = SEEN[name]
    trail = AuditTrail(**{"rule": "items", "issuer": "a", "subject": "bob", **of_trail}, signature_cached=seen)  # type: ignore[arg-type]
    fields = {"set_headers": (("x-user", "bob"),), "remove_headers": ("x_user",), **of_allow}
    allow = Allow(**{"reason": Reason.AUTHENTICATED, "trail": trail, **fields})  # type: ignore[arg-type]
    return encode_decision(allow, None, Responses(), ID)


def test_what_is_cached_of_a_response_is_what_would_be_encoded() -> None:
    """A token that was seen before has the response of a new one, whatever was encoded before it."""
    for name in (*SEEN, *reversed(SEEN), *SEEN):
        assert read(write_allow(name, seen=True)) == read(write_allow(name, seen=False)), name
    assert len({write_allow(name, seen=True) for name in SEEN}) == len(SEEN)


@pytest.mark.parametrize("decision_id", ["", "0", "0" * 16, "0" * 127, "0" * 128, "a" * 20_000, "é"])
def test_a_decision_id_may_have_any_length(decision_id: str) -> None:
    """The octets before it say how long it is."""
    message = read(encode_decision(Allow(reason=Reason.PUBLIC, trail=AuditTrail()), None, Responses(), decision_id))
    assert told(message, "decision_id") == decision_id
    assert told(message, "reason") == "public"
