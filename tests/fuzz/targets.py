"""What is fuzzed: each target takes any bytes, lets documented exceptions through, and asserts its laws."""

# ruff: noqa: PT017 - these are laws, not tests

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from authz.core import base64url
from authz.core.authorize import authorize
from authz.core.binding import certificate_thumbprint
from authz.core.claims import ClaimPath
from authz.core.decision import Allow
from authz.core.keys import KeySet
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request, canonical_path, parse_path
from authz.core.strictjson import parse_json
from authz.core.strip_credentials import strip_credentials
from authz.core.token import CookieSource, HeaderSource, QuerySource, find_token, parse_token
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.codec import decode_request, encode_decision
from tests.fixtures import T, decide, issuer_a, make_snapshot

# A key whose private part is gone, and the one good token that it ever signed.
SEED: Final = json.loads((Path(__file__).parent / "seed.json").read_text())
GOOD: Final[str] = SEED["token"]
KEYS: Final = KeySet.from_json(json.dumps(SEED["keys"]))
SNAPSHOT: Final = make_snapshot(a=issuer_a(["EdDSA"], KEYS))
_SOURCES: Final = (
    HeaderSource("authorization", "Bearer"),
    HeaderSource("x-token"),
    CookieSource("t"),
    QuerySource("t"),
)
_FORM: Final = {Reason.TOKEN_TOO_LARGE, Reason.TOKEN_MALFORMED, Reason.HEADER_INVALID, Reason.CRIT_UNSUPPORTED}


def text_of(data: bytes) -> str:
    """Read bytes as Python's own servers do: any octet becomes some character."""
    return data.decode("utf-8", "surrogateescape")


def token(data: bytes) -> None:
    """A token that is read can be written again, letter by letter, and is allowed only if it is the good one."""
    text = text_of(data)
    try:
        parsed = parse_token(text)
    except Rejected as rejected:
        assert rejected.reason in _FORM
    else:
        assert (parsed.signing_input + b"." + base64url.encode(parsed.signature)).decode() == text
        assert parsed.signing_input.endswith(b"." + base64url.encode(parsed.payload))
    allowed = decide(text, snapshot=SNAPSHOT).reason is Reason.AUTHENTICATED
    assert allowed is (text.lstrip(" ") == GOOD)


def key_set(data: bytes) -> None:
    """A set is refused, or each entry is usable or rejected; symmetric keys are never usable where they came from."""
    try:
        keys = KeySet.from_json(data)
    except ValueError:
        return
    assert len(keys.keys) + len(keys.rejected) <= len(json.loads(data)["keys"])
    assert all(key.kty != "oct" and key.bits >= 255 for key in keys.keys)
    assert KeySet.from_json(data.decode()) == keys
    for key in keys.keys:
        assert keys.block([key.thumbprint]).keys == tuple(k for k in keys.keys if k.thumbprint != key.thumbprint)


def path(data: bytes) -> None:
    """A canonical path is its own canonical form, and none of its segments moves."""
    raw = text_of(data)
    try:
        once = canonical_path(raw)
    except Rejected as rejected:
        assert rejected.reason is Reason.PATH_AMBIGUOUS
        return
    assert canonical_path(once) == once
    read = parse_path(raw)
    assert read == parse_path(once)
    assert not {"", ".", ".."} & set(read.segments)
    assert not any("/" in segment or "\\" in segment for segment in read.segments)


def strict_json(data: bytes) -> None:
    """What is read is what the standard library reads, and reads the same when it is written again."""
    try:
        value = parse_json(data)
    except ValueError:
        return
    assert json.loads(data) == value
    written = json.dumps(value, ensure_ascii=False).encode("utf-8")
    assert parse_json(written) == value


def request_token(data: bytes) -> None:
    """A token is found where a source says, and nowhere any more once it was withheld."""
    authorization, plain, cookie, query = (*map(text_of, data.split(b"\n", 3)), "", "", "", "")[:4]
    headers = {"authorization": authorization, "x-token": plain, "cookie": cookie}
    request = Request(path="/?" + query, headers={name: value for name, value in headers.items() if value})
    try:
        found = find_token(request, _SOURCES)
    except Rejected as rejected:
        assert rejected.reason in {Reason.TOKEN_MULTIPLE, Reason.TOKEN_MALFORMED}
    else:
        assert found is None or found.text in request.path or any(found.text in v for v in request.headers.values())
    withheld = strip_credentials(request, _SOURCES)
    left = {**request.headers, **dict(withheld.set)}
    after = replace(request, path="/", headers={name: left[name] for name in left if name not in withheld.remove})
    with suppress(Rejected):  # a header of too many parts, none of them ours, goes on
        assert find_token(after, _SOURCES) is None


def certificate(data: bytes) -> None:
    """A thumbprint is the canonical base64url of 32 octets, or there is none."""
    thumbprint = certificate_thumbprint(text_of(data))
    assert thumbprint is None or len(base64url.decode(thumbprint.encode())) == 32


def claim_path(data: bytes) -> None:
    """A path that is read finds what stands there, and nothing where a name is missing."""
    try:
        read = ClaimPath.parse(text_of(data))
    except ValueError:
        return
    value: object = "found"
    for name in reversed(read.names):
        value = {name: value}
    assert isinstance(value, dict)
    assert read.find(value) == "found"
    assert read.find({}) is None


def check(data: bytes) -> None:
    """Whatever Envoy sends is decided, the good token alone is someone's, and only an allow has the code of one."""
    try:
        request = decode_request(data)
    except Rejected as rejected:
        assert rejected.reason is Reason.REQUEST_MALFORMED
        return
    decision = authorize(request, SNAPSHOT, T)
    answer = wire.CheckResponse.FromString(encode_decision(decision, request, SNAPSHOT.responses, "id"))
    assert (answer.status.code == 0) is isinstance(decision, Allow)
    assert not answer.HasField("error_response")
    if decision.reason is Reason.AUTHENTICATED:
        assert request.headers["authorization"].split(" ", 1)[1].lstrip(" ") == GOOD


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (token, key_set, path, strict_json, request_token, certificate, claim_path, check)
}
