"""Proves what the operator reads: each refusal names its cause, exactly and without anything of the token's."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from authz.core.claims import ClaimPath
from authz.core.identity import Identity, separator_variants
from authz.core.keys import KeySet
from authz.core.policy import AccessMode, HostPattern, PathTemplate, Policy
from authz.core.reasons import Reason, Rejected
from authz.core.request import Request, canonical_host, parse_path
from authz.core.requirements import NoResultError
from authz.core.resource_metadata import ProtectedResource
from authz.core.snapshot import TokenRules
from authz.core.strictjson import parse_json, parse_object
from authz.core.token import CookieSource, QuerySource, parse_token
from tests.fixtures import (
    A_EC,
    A_RSA,
    ABSENT,
    A,
    T,
    ask,
    changed,
    claim,
    decide,
    header,
    issuer_a,
    key_set,
    make_snapshot,
    mint,
    rule,
    signer,
    unsigned,
)
from tests.unit.core.test_jwk_validation import EC, ED, ED448, OCT, PQ, ROCA_2048, RSA, number

HEAD: Final = {"alg": "ES256", "kid": "a-ec"}
BOUNDED: Final = make_snapshot(a=issuer_a(max_lifetime=60))
COOKIES: Final = make_snapshot(token=TokenRules(sources=(CookieSource("t"),)))
QUERY: Final = make_snapshot(token=TokenRules(sources=(QuerySource("t"),)))
NOBODY: Final = make_snapshot(rule("nobody", "/**", allow=AccessMode.DENY))


class _Broken:
    """A condition that fails, or does not hold."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def holds(self, request: Request, params: object, claims: object) -> bool:
        if self._error is not None:
            raise self._error
        return False


def ruled(**wanted: Any) -> Any:  # noqa: ANN401 - requirements are of several types
    """Ask for something in the only rule."""
    return make_snapshot(rule("r", "/**", **wanted))


DENIALS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no-path": ({"path": ""}, "no path"),
    "long-path": ({"path": "/" * 16_385}, "path longer than 16384 characters"),
    "long-query": ({"path": "/?" + "a" * 65_537}, "query longer than 65536 characters"),
    "headers": ({"headers": {"": "x"}}, "more than 1000 headers, or one without a name"),
    "method": ({"method": "G T"}, "method is not a token"),
    "method in lower case": ({"method": "delete"}, "method is a registered one, but not in upper case"),
    "host": ({"host": "a@b"}, "host is not a host name or address"),
    "connection": ({"headers": {"connection": "x-user-id"}}, "connection names an identity header"),
    "long-connection": ({"headers": {"connection": "x" * 1_025}}, "connection of more than 1024 characters"),
    "many-cookies": ({"headers": {"cookie": ";" * 512}, "snapshot": COOKIES}, "more than 512 cookies"),
    "spellings": ({"path": "/a;b//c"}, "path has double_slash, semicolon"),
    "no-rule": ({"path": "/elsewhere"}, "no rule matches"),
    "nobody": ({"snapshot": NOBODY}, "the rule denies every request"),
    "no-token": ({}, "no token in any configured place"),
    "two-headers": ({"headers": {"authorization": "Bearer a, Bearer b"}}, "2 credentials in one header"),
    "two-cookies": ({"headers": {"cookie": "t=a; t=b"}, "snapshot": COOKIES}, "2 tokens in one request"),
    "many-credentials": ({"headers": {"authorization": "," * 64}}, "more than 64 parts in one header"),
    "many-parameters": ({"path": "/items/1?" + "&" * 1024, "snapshot": QUERY}, "query with more than 1024 parameters"),
    "no-text": ({"headers": {"authorization": "Bearer "}}, "no token after Bearer"),
    "too-large": ({"token": "x" * 16_385}, "token of 16385 characters, at most 16384"),
    "own-limit": (
        {"token": mint(), "snapshot": make_snapshot(token=TokenRules(max_bytes=9))},
        f"token of {len(mint())} characters, at most 9",
    ),
    "issuer": ({"token": mint(iss="https://c.test")}, "iss is not a configured issuer"),
    "issuer-but-slash": (
        {"token": mint(iss=f"{A}/")},
        "iss is not a configured issuer: the trailing slash differs",
    ),
    "issuer-with-slash": (
        {"token": mint(), "snapshot": make_snapshot(issuers={f"{A}/": issuer_a()})},
        "iss is not a configured issuer: the trailing slash differs",
    ),
    "no-issuer": ({"token": mint(iss=ABSENT)}, "iss is missing or not a string"),
    "issuer-of-another-key": (
        {"token": mint(), "snapshot": make_snapshot(a=issuer_a(issuer="https://c.test"))},
        "iss is not the issuer of the key that signed",
    ),
    "payload": ({"token": unsigned(HEAD, payload=b"[]")}, "payload: not a JSON object"),
    "payload-utf-8": ({"token": unsigned(HEAD, payload=b"\xff")}, "payload: not UTF-8"),
    "alg": ({"token": mint(header={"alg": "RS512"})}, "alg is not allowed for this issuer"),
    "typ": ({"token": mint(header={"typ": "x"})}, "typ is not one of at+jwt, jwt"),
    "no-keys": (
        {"token": mint(), "snapshot": make_snapshot(a=issuer_a(keys=None))},
        "no keys of this issuer, or none that are fresh enough",
    ),
    "expired": ({"token": mint(exp=T - 5)}, "expired 5 s ago, leeway 0 s"),
    "nbf": ({"token": mint(nbf=T + 9)}, "nbf is 9 s ahead"),
    "iat": ({"token": mint(iat=T + 9)}, "iat is 9 s ahead"),
    "sub": ({"token": mint(sub=1)}, "sub is not a string"),
    "sub-of-no-workload": (
        {
            "token": mint(iss="spiffe://a"),
            "snapshot": make_snapshot(issuers={"spiffe://a": issuer_a(issuer="spiffe://a")}),
        },
        "sub is not a SPIFFE ID of the issuer's trust domain",
    ),
    "no-sub": ({"token": mint(sub=ABSENT)}, "sub is missing"),
    "no-exp": ({"token": mint(exp=ABSENT)}, "exp is missing"),
    "no-end": (
        {"token": mint(exp=ABSENT), "snapshot": make_snapshot(a=issuer_a(required=()))},
        "exp is missing",
    ),
    "exp": ({"token": mint(exp="1")}, "exp is not a NumericDate"),
    "order": ({"token": mint(nbf=T + 301)}, "nbf is after exp"),
    "lifetime": ({"token": mint(), "snapshot": BOUNDED}, "lifetime of 300 s, at most 60 s"),
    "no-iat": ({"token": mint(iat=ABSENT), "snapshot": BOUNDED}, "a bounded lifetime needs iat and exp"),
    "logout": (
        {"token": mint(events={"http://schemas.openid.net/event/backchannel-logout": {}})},
        "a logout token (OpenID Connect Back-Channel Logout section 2.4)",
    ),
    "aud": ({"token": mint(aud=1)}, "aud is not a string or a list of strings"),
    "other-aud": ({"token": mint(aud="x")}, "aud has none of the issuer's audiences"),
    "cnf": ({"token": mint(cnf=1)}, "cnf is not an object"),
    "cnf-jkt": ({"token": mint(cnf={"jkt": "x"})}, "the token is bound to a key, and DPoP is off for its issuer"),
    "cnf-other": ({"token": mint(cnf={"x5t#S256": "x"})}, "the peer's certificate is not the one in cnf"),
    "acr": ({"token": mint(), "snapshot": ruled(acr=("mfa",))}, "acr is absent"),
    "amr": ({"token": mint(), "snapshot": ruled(amr=("otp",))}, "amr is absent"),
    "max-age": ({"token": mint(), "snapshot": ruled(max_age=9)}, "auth_time is absent"),
    "scopes": ({"token": mint(scope="b"), "snapshot": ruled(scopes=("a", "b", "c"))}, "scope lacks a c"),
    "any-scope": (
        {"token": mint(), "snapshot": ruled(any_scope=("a", "b"))},
        "scope lacks one of a b",
    ),
    "rule-issuer": (
        {"token": mint(), "snapshot": ruled(issuers=frozenset({"b"}))},
        "issuer a is not one of the rule's issuers",
    ),
    "claim": (
        {"token": mint(), "snapshot": ruled(claims=(claim("sub", "x"),))},
        "claims.sub is a string, and does not contain any required value",
    ),
    "condition": ({"token": mint(), "snapshot": ruled(condition=_Broken())}, "the rule's condition does not hold"),
    "condition-fails": (
        {"token": mint(), "snapshot": ruled(condition=_Broken(KeyError("x")))},
        "the rule's condition failed: KeyError",
    ),
    "condition-without-answer": (
        {"token": mint(), "snapshot": ruled(condition=_Broken(NoResultError("no such key: x")))},
        "the rule's condition failed: no such key: x",
    ),
    "rule-audience": (
        {"token": mint(), "snapshot": ruled(audiences=frozenset({"x"}))},
        "the audience contains none of the rule's audiences",
    ),
    "origin": (
        {"headers": {"cookie": f"t={mint()}"}, "snapshot": COOKIES, "method": "POST"},
        "a token in a cookie came without proof of the same origin",
    ),
    "unsafe": (
        {"token": mint(sub="\n")},
        "x-user-id: the value has characters that a header cannot contain",
    ),
    "element": (
        {"token": mint(groups=["a,b"])},
        "x-user-groups: a list element is empty or contains the separator",
    ),
    "unsafe-element": (
        {"token": mint(groups=["\n"])},
        "x-user-groups: the value has characters that a header cannot contain",
    ),
    "element-without-form": (
        {"token": mint(groups=[["a"]])},
        "x-user-groups: the claim is a list or an object: configure join or format",
    ),
    "no-form": (
        {"token": mint(c=[1]), "snapshot": make_snapshot(identity=Identity((header("x-c", "c"),)))},
        "x-c: the claim is a list or an object: configure join or format",
    ),
    "headers-size": ({"token": mint(sub="x" * 9_000)}, "identity headers of 9033 octets, at most 8192"),
}


@pytest.mark.parametrize(("asked", "detail"), DENIALS.values(), ids=DENIALS)
def test_denial(asked: dict[str, Any], detail: str) -> None:
    """A denied request is recorded with its cause."""
    assert decide(**asked).detail == detail


FORMS: Final[dict[str, tuple[str, str]]] = {
    "not-ascii": ("é.a.b", "token is not ASCII"),
    "segments": ("a.b", "token is not three segments"),
    "alphabet": ("!!!.AAAA.AAAA", "not canonical base64url"),
    "length": ("A.AAAA.AAAA", "not base64url"),
    "detached": (unsigned(HEAD, payload=b""), "content is detached"),
    "header": (unsigned(b"[]"), "header: not a JSON object"),
    "header-utf-8": (unsigned(b"\xff"), "header: not UTF-8"),
    "alg": (unsigned({}), "header: alg is not a string, or is empty"),
    "kid": (unsigned({**HEAD, "kid": 1}), "header: kid is not a string of at most 1024 characters"),
    "typ": (unsigned({**HEAD, "typ": 1}), "header: typ is not a string"),
    "crit": (unsigned({**HEAD, "crit": []}), "no header extension is supported"),
}


@pytest.mark.parametrize(("token", "detail"), FORMS.values(), ids=FORMS)
def test_form(token: str, detail: str) -> None:
    """A token in bad form is refused with what is bad about it."""
    with pytest.raises(Rejected) as caught:
        parse_token(token)
    assert caught.value.detail == detail


OTHER: Final = signer("ES256", "other")
CHOICES: Final[dict[str, tuple[KeySet, str, str]]] = {
    "ambiguous": (
        key_set(*(signer("ES256", f"many-{number}") for number in range(5))),
        mint(A_EC, header={"kid": ABSENT}),
        "more than 4 keys are candidates",
    ),
    "none-of-two": (
        key_set(OTHER, signer("ES256", "another")),
        mint(A_EC, header={"kid": ABSENT}),
        "signature does not verify under any of 2 keys",
    ),
    "none-without-a-kid": (
        key_set(changed(OTHER.public(), {"kid": ABSENT})),
        mint(A_EC),
        "no key with this kid, and none of the 1 without it signed",
    ),
    "none-usable": (
        key_set(A_RSA, changed(A_EC.public(), {"x": "AA"})),
        mint(A_EC, header={"kid": ABSENT}),
        "no key id, and the key for this alg was rejected",
    ),
    "none": (key_set(A_RSA), mint(A_EC, header={"kid": ABSENT}), "no key id, and no key for this alg"),
    "other-alg": (key_set(A_EC), mint(header={"kid": "a-ec"}), "the key with this id is not for this alg"),
    "set-aside": (
        key_set(changed(A_EC.public(), {"use": "enc"})),
        mint(A_EC),
        "the key with this id was rejected: use is not sig",
    ),
    "blocked": (
        key_set(A_EC).block(["a-ec"]),
        mint(A_EC),
        "the key with this id was rejected: blocked by configuration",
    ),
    "absent": (key_set(A_RSA), mint(A_EC), "no key with this id"),
    "short": (key_set(A_EC), unsigned(HEAD, b"x"), "signature of 1 octets, not 64"),
    "zero": (key_set(A_EC), unsigned(HEAD, bytes(64)), "r or s out of range"),
    "wrong": (key_set(A_EC), unsigned(HEAD, b"x" * 64), "signature does not verify"),
}


@pytest.mark.parametrize(("keys", "token", "detail"), CHOICES.values(), ids=CHOICES)
def test_choice(keys: KeySet, token: str, detail: str) -> None:
    """A token without its key, or without a signature, is refused with what was missing."""
    with pytest.raises(Rejected) as caught:
        keys.verify(parse_token(token), ["RS256", "ES256"])
    assert caught.value.detail == detail


ENTRIES: Final[dict[str, tuple[object, str]]] = {
    "not-an-object": (1, "not a JSON object"),
    "kid": (changed(RSA, {"kid": 1}), "kid is not a string"),
    "no-kty": ({}, "kty is missing or not a string"),
    "use": (changed(RSA, {"use": "enc"}), "use is not sig"),
    "key-ops": (changed(RSA, {"key_ops": ["encrypt"]}), "key_ops has no verify"),
    "alg-of-encryption": (changed(RSA, {"alg": "RSA-OAEP"}), "alg RSA-OAEP is for encryption"),
    "curve-of-encryption": (changed(ED, {"crv": "X25519"}), "crv X25519 is for encryption"),
    "alg": (changed(RSA, {"alg": "x"}), "alg is not a supported signature algorithm"),
    "private": (changed(RSA, {"d": "AQ"}), "private key material was published"),
    "oct": (OCT, "symmetric key in a published set"),
    "oct-without-a-secret": ({"kty": "oct", "k": None}, "k is missing or not a string"),
    "kty": ({"kty": "x"}, "kty is unknown"),
    "alg-of-another": (changed(EC, {"alg": "RS256"}), "alg RS256 does not match the key type or curve"),
    "bits": (changed(RSA, {"n": "AQ"}), "RSA modulus of 1 bits, not 2048 to 8192"),
    "exponent": (changed(RSA, {"e": "AQ"}), "RSA exponent is even, too small or too large"),
    "factor": (changed(RSA, {"n": number(2**2047 + 1)}), "RSA modulus has a small factor"),
    "even": (changed(RSA, {"n": number(2**2047)}), "RSA modulus has a small factor"),
    "roca": (changed(RSA, {"n": number(ROCA_2048)}), "RSA modulus has the ROCA fingerprint (CVE-2017-15361)"),
    "curve": (changed(EC, {"crv": "x"}), "crv is not a supported signature curve"),
    "ed25519": (changed(ED, {"x": "A" * 43}), "Ed25519 point of small order"),
    "ed448": (changed(ED448, {"x": "A" * 76}), "Ed448 point of small order"),
    "akp": (changed(PQ, {"alg": ABSENT}), "AKP key without a supported alg"),
    "missing": (changed(EC, {"x": ABSENT}), "x is missing or not a string"),
    "junk": (changed(EC, {"x": "####"}), "x is not base64url"),
    "length": (changed(EC, {"x": "AQ" + "A" * 42}), "x has 33 octets, not 32"),
    "zero": (changed(RSA, {"n": "AAAA"}), "n is empty or has a leading zero octet"),
    "off-curve": (changed(EC, {"y": EC["x"]}), "the key's numbers are not a valid public key"),
}


@pytest.mark.parametrize(("entry", "why"), ENTRIES.values(), ids=ENTRIES)
def test_entry(entry: object, why: str) -> None:
    """A key that is rejected is listed with what is wrong with it."""
    (rejected,) = key_set(entry).rejected
    assert rejected[1] == why


@pytest.mark.parametrize(
    ("k", "why"),
    [
        ("AAAA", "secret of 3 octets, at least 32"),
        ("A" * 43, "secret has too few different octets"),
        ("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg", "secret is publicly known"),  # RFC 7520 section 3.5
    ],
)
def test_secret(k: str, why: str) -> None:
    """A weak secret is rejected for what makes it weak, without a letter of it."""
    assert key_set(changed(OCT, {"k": k}), local=True).rejected == [(None, why)]


ERRORS: Final[dict[str, tuple[Any, str]]] = {
    "keys-object": (lambda: KeySet.from_json("{}"), "the document has no array `keys`"),
    "keys-large": (lambda: KeySet.from_json("{}", max_bytes=1), "2 bytes, at most 1 (fetch.max_bytes)"),
    "kid-long": (
        lambda: KeySet.from_json(json.dumps({"keys": [{"kid": "k" * 1025}]})),
        "a key id of 1025 characters, at most 1024",
    ),
    "policy": (lambda: Policy([]), "a policy needs at least one rule"),
    "template": (lambda: PathTemplate.parse("x"), "a path begins with /"),
    "template-query": (
        lambda: PathTemplate.parse("/a?b"),
        "a path has no query, fragment, backslash, semicolon or percent-encoding; write it decoded",
    ),
    "template-empty": (lambda: PathTemplate.parse("/a//b"), "a path has no empty segments"),
    "template-dots": (lambda: PathTemplate.parse("/a/.."), "a path has no dot segments"),
    "template-star": (
        lambda: PathTemplate.parse("/a*"),
        '"a*": wildcards are only allowed as a whole segment {name}, or as a final /**',
    ),
    "template-twice": (lambda: PathTemplate.parse("/{a}/{a}"), "two parameters have the same name"),
    "host": (
        lambda: HostPattern.parse("a:1"),
        "a host is a name or an address without port, such as api.example.com or *.example.com",
    ),
    "claim-path": (
        lambda: ClaimPath.parse("a[b]"),
        'claim path cannot be read at "[b]"; write a name with dots as ["a.b"]',
    ),
    "claim-path-empty": (lambda: ClaimPath.parse(""), "claim path is empty"),
    "separators": (lambda: separator_variants("a-b-c-d-e-f-g"), "a-b-c-d-e-f-g has 6 separators, at most 5"),
    "resource": (
        lambda: ProtectedResource.describe("https://a.test/b;c", authorization_servers=(), scopes=(), methods=()),
        "its path is ambiguous: servers interpret it differently",
    ),
    "json-depth": (lambda: parse_json(b"[" * 33), "nested deeper than 32"),
    "json-crowd": (
        lambda: parse_json(b"[" + b"[]," * 39 + b"[]]", max_containers=32),
        "41 arrays and objects, at most 32",
    ),
    "json-duplicate": (lambda: parse_json(b'{"a":1,"a":1}'), "duplicate member"),
    "json-long": (lambda: parse_json(b"1" * 65), "number too long"),
    "json-long-fraction": (lambda: parse_json(b"1." + b"1" * 63), "number too long"),
    "json-range": (lambda: parse_json(b"1e400"), "number out of range"),
    "json-constant": (lambda: parse_json(b"NaN"), "NaN is not JSON"),
    "json-object": (lambda: parse_object(b"1"), "not a JSON object"),
    "json-two": (lambda: parse_json(b'{"a":1}{"b":2}'), "more than one value"),
    "json-surrogate": (lambda: parse_json(rb'"\ud800"'), "lone surrogate"),
}


@pytest.mark.parametrize(("call", "text"), ERRORS.values(), ids=ERRORS)
def test_error(call: Any, text: str) -> None:  # noqa: ANN401 - a column of the table
    """What an operator wrote, or an issuer published, is refused with what is wrong with it."""
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        call()


PATHS: Final = {
    "a": "path does not begin with a slash",
    "/\\": "path has a character that must be percent-encoded",
    "/%2541": "path is percent-encoded twice",
    "/a/../b": "path has a dot segment",
    "/a%2F..%2Fb": "path has a dot segment",
    "/%C0%AF": "path is not UTF-8 when decoded",
    "/%4": "path has an incomplete percent-encoding",
    "/%5C": "path has an encoded backslash or control character",
}


@pytest.mark.parametrize(("path", "detail"), PATHS.items())
def test_path(path: str, detail: str) -> None:
    """A path with two readings is refused with the place where they part."""
    with pytest.raises(Rejected) as caught:
        parse_path(path)
    assert (caught.value.reason, caught.value.detail) == (Reason.PATH_AMBIGUOUS, detail)


def test_host() -> None:
    """A host that is none is refused as such, wherever it stands."""
    with pytest.raises(Rejected) as caught:
        canonical_host("a,b")
    assert caught.value.detail == "host is not a host name or address"


def test_nothing_of_the_token_is_told() -> None:
    """No detail repeats what only the client wrote."""
    secret = "s3cr3t"
    for asked in (
        {"token": secret},
        {"token": unsigned({"alg": secret, "kid": secret})},
        {"token": unsigned({**HEAD, "kid": secret, "typ": secret})},
        {"token": mint(A_EC, iss=secret)},
        {"token": mint(A_EC, aud=secret, sub=secret)},
    ):
        assert secret not in decide(**asked).detail  # type: ignore[arg-type]
    assert ask(secret).headers["authorization"].endswith(secret)
