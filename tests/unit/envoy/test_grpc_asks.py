"""A gRPC server that asks for itself (gRFC A92) gets the same decisions as Envoy, in the form that it understands.

grpc_java_1_85_1.json is a CheckRequest as grpc-java 1.85.1 sent it: without host, scheme and content-type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from google.protobuf import json_format

from authz.core.authorize import authorize
from authz.core.policy import AccessMode, Rule
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.snapshot import Responses
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.codec import decode_request, encode_decision
from tests.fixtures import T, ask, make_snapshot, mint, rule
from tests.unit.envoy.asking import ID, headers_of, read

SENT: Final = Path(__file__).with_name("grpc_java_1_85_1.json").read_text(encoding="utf-8")
FOR_A_HOST: Final = rule("host", "/**", hosts=["api.test"], allow=AccessMode.PUBLIC)
SERVICE: Final = "/pkg.Service/**"


def sent(**headers: str) -> Request:
    """Read the CheckRequest, with these headers in place of its own credentials."""
    message = json_format.Parse(SENT, wire.CheckRequest())
    listed = message.attributes.request.http.header_map.headers
    kept = [each for each in listed if each.key != "authorization"]
    del listed[:]
    listed.extend(kept)
    for name, value in headers.items():
        listed.add(key=name.replace("_", "-").replace("pseudo-", ":"), raw_value=value.encode())
    return decode_request(message.SerializeToString())


def decide(request: Request, *rules: Rule) -> Reason:
    """Decide by these rules."""
    return authorize(request, make_snapshot(*rules), T).reason


def test_no_host_is_judged_by_the_rules_that_name_none() -> None:
    """A good token, no token and a public rule are three answers; a rule for a host, or for all below one, is none."""
    good = sent(authorization=f"Bearer {mint()}")
    assert decide(good, FOR_A_HOST, rule("all", SERVICE)) is Reason.AUTHENTICATED
    assert decide(sent(), FOR_A_HOST, rule("all", SERVICE)) is Reason.TOKEN_MISSING
    assert decide(sent(), rule("all", SERVICE, allow=AccessMode.PUBLIC)) is Reason.PUBLIC
    assert decide(good, FOR_A_HOST, rule("wild", "/**", hosts=["*.test"])) is Reason.POLICY_DENIED


def test_the_authority_among_the_headers_counts() -> None:
    """Where the header map has `:authority`, it is the host, and is read as strictly."""
    assert decide(sent(pseudo_authority="API.test:443"), FOR_A_HOST) is Reason.PUBLIC
    assert decide(sent(pseudo_authority="a@b"), FOR_A_HOST) is Reason.REQUEST_MALFORMED


def test_envoys_host_wins_over_the_header() -> None:
    """What Envoy says of the host is not overruled by a header that a client might send."""
    http = wire.AttributeContext.HttpRequest(host="api.test", headers={":authority": "other.test"})
    attributes = wire.AttributeContext(request=wire.AttributeContext.Request(http=http))
    assert decode_request(wire.CheckRequest(attributes=attributes).SerializeToString()).host == "api.test"


CALL: Final = {"content-type": "application/grpc"}
ASKERS: Final = {
    "Envoy": (ask(headers={**CALL, ":authority": "api.test", ":path": "/"}, scheme="https"), True),
    "Envoy that shows some headers": (ask(headers=CALL, scheme="http"), True),
    "grpc-java": (ask(headers=CALL, host=""), False),
    "one that says the authority": (ask(headers={**CALL, ":authority": "api.test"}), False),
}


@pytest.mark.parametrize(("request_", "expected"), ASKERS.values(), ids=ASKERS)
def test_grpc_status_is_for_envoy_alone(request_: Request, expected: bool) -> None:  # noqa: FBT001 - a column
    """Envoy honours `grpc-status`, and always sends scheme and host; grpc-java fails on it, and sends neither."""
    denied = authorize(request_, make_snapshot(rule("all", "/**")), T)
    answer = read(encode_decision(denied, request_, Responses(), ID))
    assert ("grpc-status" in headers_of(answer)) is expected
    assert answer.denied_response.status.code == 401


@pytest.mark.parametrize("expose", [False, True])
def test_the_status_carries_the_decision_id(expose: bool) -> None:  # noqa: FBT001 - a column of the table
    """The only text that an application behind grpc-java sees; the reason is in it only if clients may know it."""
    request = sent()
    denied = authorize(request, make_snapshot(rule("all", "/**")), T)
    answer = read(encode_decision(denied, request, Responses(expose_reason=expose), ID))
    assert answer.status.message == f"Unauthorized{' (token_missing)' if expose else ''}, decision {ID}"
