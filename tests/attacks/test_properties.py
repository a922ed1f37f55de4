"""What holds for every input: laws of the core over generated requests, tokens, claims, rules and documents."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from authz.core import base64url
from authz.core.authorize import authorize
from authz.core.claims import check
from authz.core.decision import Allow, Deny
from authz.core.identity import Identity, UnsafeValues
from authz.core.keys import KeySet
from authz.core.policy import Policy, Rule
from authz.core.reasons import WIRE_STATUS, Reason, Rejected
from authz.core.request import Request, parse_target
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.strictjson import parse_json
from authz.core.token import CookieSource, HeaderSource, QuerySource, parse_token
from tests.attacks.generated import bounded, claim_changes, header_changes, json_values, paths, requests, scalars, texts
from tests.cases.case import Case
from tests.cases.test_decisions import CASES
from tests.fixtures import (
    A_EC,
    A_RSA,
    DEFAULT_SNAPSHOT,
    ISSUER_A,
    T,
    ask,
    claim,
    decide,
    header,
    jwks,
    make_snapshot,
    mint,
    rule,
    signer,
    unsigned,
)

SOURCES: Final = (HeaderSource("authorization", "Bearer"), HeaderSource("x"), CookieSource("t"), QuerySource("t"))
WORLDS: Final = st.sampled_from(
    [
        DEFAULT_SNAPSHOT,
        make_snapshot(token=TokenRules(sources=SOURCES, forward=False)),
        make_snapshot(shadow_all=True),
        make_snapshot(
            rule("fold", "/Items/{id}", case_insensitive=True, hosts=["*.test"]), rule("rest", "/**", shadow=True)
        ),
    ]
)
INVALID_TOKEN: Final = {reason for reason, answer in WIRE_STATUS.items() if answer.error == "invalid_token"}


# Totality


@bounded
@given(requests(texts.map(lambda text: f"Bearer {text}") | texts), WORLDS, st.floats(0, 1e12))
def test_every_request_is_decided(request: Request, snapshot: Snapshot, now: float) -> None:
    """Whatever text stands in whatever field, there is a decision, and no one is authenticated without a key."""
    decision = authorize(request, snapshot, now)
    assert isinstance(decision, Allow | Deny)
    assert decision.reason is not Reason.AUTHENTICATED
    if isinstance(decision, Allow) and not decision.would_deny:
        assert decision.reason in {Reason.PUBLIC, Reason.ANONYMOUS}
        assert decision.set_headers == () or not snapshot.token.forward


@bounded
@given(header_changes, claim_changes, st.binary(max_size=80))
def test_every_forged_token_is_refused(head: dict[str, Any], claims: dict[str, Any], signature: bytes) -> None:
    """Whatever a token says of itself, without a signature of the issuer's it is refused as a token."""
    payload = json.dumps({"iss": "https://a.test", "aud": "api", "sub": "x", "exp": T + 9, **claims}).encode()
    decision = decide(unsigned({"alg": "ES256", "kid": "a-ec", **head}, signature or b"x", payload))
    assert isinstance(decision, Deny)
    assert decision.reason in INVALID_TOKEN


@bounded
@given(claim_changes)
def test_every_signed_payload_is_decided(claims: dict[str, Any]) -> None:
    """Whatever an issuer signs is decided, and what is allowed is introduced as the subject that was signed."""
    decision = decide(mint(A_EC, claims=claims), path="/admin")
    if isinstance(decision, Allow):
        assert dict(decision.set_headers)["x-user-id"] == claims.get("sub", "bob")
    else:
        assert WIRE_STATUS[decision.reason].http in {401, 403}


@bounded
@given(st.binary(max_size=120))
def test_every_payload_of_bytes_is_decided(payload: bytes) -> None:
    """A signed payload of any bytes is no more than malformed."""
    decision = decide(mint(A_EC, payload=payload))
    assert decision.reason in {Reason.CLAIMS_MALFORMED, Reason.TOKEN_MALFORMED}


# A token is what was signed, and nothing near it


@pytest.mark.parametrize("key", [A_RSA, A_EC], ids=["rsa", "ec"])
def test_one_changed_character_is_refused(key: Any) -> None:  # noqa: ANN401 - a column of the table
    """At every place of a good token, every change of one character is refused as a bad token."""
    good = mint(key)
    assert decide(good).reason is Reason.AUTHENTICATED
    for place, char in enumerate(good):
        for other in {chr(ord(char) ^ 1), char.swapcase(), chr(ord(char) + 2), "A", ".", "=", "%", "\n", "é"} - {char}:
            decision = decide(good[:place] + other + good[place + 1 :])
            assert decision.reason in INVALID_TOKEN, (place, other)


@pytest.mark.parametrize("key", [A_RSA, A_EC], ids=["rsa", "ec"])
def test_one_character_more_or_less_is_refused(key: Any) -> None:  # noqa: ANN401 - a column of the table
    """At every place of a good token, one character left out, doubled or added makes it a bad one."""
    good = mint(key)
    for place in range(len(good)):
        for changed in (
            good[:place] + good[place + 1 :],
            good[: place + 1] + good[place:],
            f"{good[:place]}-{good[place:]}",
        ):
            assert decide(changed).reason in INVALID_TOKEN, (place, changed)


# Rules only narrow

LEVELS: Final[dict[str, list[Any]]] = {
    "issuers": [frozenset({"a"}), frozenset({"b"})],
    "audiences": [frozenset({"api"}), frozenset({"x"})],
    "scopes": [("r",), ("r", "w")],
    "any_scope": [("r", "w"), ("x",)],
    "claims": [(claim("groups", "admin"),), (claim("groups", "admin", "staff", every=True), claim("sub", "bob"))],
    "acr": [("mfa",)],
    "amr": [("hwk", "otp")],
    "max_age": [60.0],
}
requirements: Final = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in LEVELS.items()}
)
token_claims: Final = st.fixed_dictionaries(
    {},
    optional={
        "groups": st.sampled_from([["admin"], ["admin", "staff"], []]),
        "scope": st.sampled_from(["r", "r w", "x", ""]),
        "acr": st.sampled_from(["mfa", "pwd"]),
        "amr": st.sampled_from([["hwk"], []]),
        "auth_time": st.sampled_from([T, T - 61]),
    },
)


@bounded
@given(token_claims, requirements, requirements)
def test_one_more_requirement_never_widens(claims: dict[str, Any], some: dict[str, Any], more: dict[str, Any]) -> None:
    """What a rule with more requirements allows, the rule with fewer allows."""
    token = mint(A_EC, claims=claims)
    narrow, wide = (
        decide(token, snapshot=make_snapshot(rule("r", "/**", **wanted))) for wanted in ({**more, **some}, some)
    )
    assert not (isinstance(narrow, Allow) and isinstance(wide, Deny))


DENIED: Final = [
    case
    for case in CASES
    if case.snapshot.token.sources == DEFAULT_SNAPSHOT.token.sources
    and isinstance(authorize(case.request, case.snapshot, case.now, case.facts), Deny)
]


@bounded
@given(st.sampled_from(DENIED), texts | st.sampled_from(["x-forwarded-for", "cookie", "origin", "host"]), texts)
def test_no_header_opens_a_door(case: Case, name: str, value: str) -> None:
    """No header of the client's turns a denial into an allow, but for the one that carries the token."""
    assume(name != "authorization" and name not in case.request.headers)
    request = replace(case.request, headers={**case.request.headers, name: value})
    assert isinstance(authorize(request, case.snapshot, case.now, case.facts), Deny)


templates: Final = st.lists(st.sampled_from(["a", "b", "{x}", "items"]), max_size=3).map(
    lambda parts: "/" + "/".join(part if part != "{x}" else f"{{x{at}}}" for at, part in enumerate(parts))
)
rules: Final = st.builds(
    lambda name, path, rest, hosts, methods, fold: rule(
        name, path.rstrip("/") + "/**" if rest else path, hosts=hosts, methods=methods, case_insensitive=fold
    ),
    st.text(string.ascii_lowercase, min_size=1, max_size=4),
    templates,
    st.booleans(),
    st.lists(st.sampled_from(["api.test", "*.test", "x.y.test", "*.y.test"]), max_size=2),
    st.lists(st.sampled_from(["GET", "POST"]), max_size=1),
    st.booleans(),
)
plain_requests: Final = st.builds(
    lambda parts, host, method: ask(path="/" + "/".join(parts), host=host, method=method),
    st.lists(st.sampled_from(["a", "A", "b", "items", "%61"]), max_size=3),
    st.sampled_from(["api.test", "x.y.test", "y.test"]),
    st.sampled_from(["GET", "POST"]),
)


@bounded
@given(st.lists(rules, min_size=1, max_size=5), rules, plain_requests)
def test_rule_below_changes_nothing_above(some: list[Rule], below: Rule, request: Request) -> None:
    """What one of the rules above decided stays decided when a rule is added below."""
    before = authorize(request, make_snapshot(*some), T)
    after = authorize(request, make_snapshot(*some, below), T)
    assert after == before or before.trail.rule is None


def matches(candidate: Rule, request: Request) -> bool:
    """Match a rule as its description says, segment by segment, without any index."""
    target, match = parse_target(request), candidate.match
    fold = str.casefold if match.case_insensitive else str
    asked = [fold(segment) for segment in target.path.segments]

    def fits(template: Any) -> bool:  # noqa: ANN401 - a PathTemplate
        wanted = [segment if segment is None else fold(segment) for segment in template.segments]
        enough = len(asked) >= len(wanted) if template.prefix else len(asked) == len(wanted)
        return enough and all(want in (None, have) for want, have in zip(wanted, asked, strict=False))

    here = not match.hosts or any(
        target.host.endswith("." + host.name) if host.wildcard else target.host == host.name for host in match.hosts
    )
    return here and (not match.methods or target.method in match.methods) and any(map(fits, match.paths))


@bounded
@given(st.lists(rules, min_size=1, max_size=6), plain_requests)
def test_index_finds_what_a_plain_search_finds(some: list[Rule], request: Request) -> None:
    """The index of the rules gives the first rule that matches, as reading them one by one would."""
    first = next((candidate for candidate in some if matches(candidate, request)), None)
    try:
        found: Rule | None = Policy(some).select(parse_target(request), {})[0]
    except Rejected:
        found = None
    assert found is first


# Documents


@bounded
@given(json_values)
def test_any_document_is_a_set_or_a_value_error(document: object) -> None:
    """No JSON raises anything but ValueError when it is read as a key set."""
    try:
        KeySet.from_json(json.dumps(document))
    except ValueError:
        return
    assert isinstance(document, dict)


def is_grammatical(value: object) -> bool:
    """Tell whether strict JSON can say it: a document that cannot be read fails as a whole."""
    try:
        parse_json(json.dumps(value).encode())
    except ValueError:
        return False
    return True


JWK_MEMBERS: Final = ["kty", "crv", "alg", "use", "key_ops", "n", "e", "x", "y", "pub", "k", "d", "kid", "x5c"]
grammatical: Final = json_values.filter(is_grammatical)
GOOD_KEYS: Final = [A_RSA, A_EC, signer("Ed25519", "ed"), signer("ML-DSA-44", "pq")]


@bounded
@given(
    st.sampled_from(GOOD_KEYS),
    st.dictionaries(
        st.sampled_from(JWK_MEMBERS),
        grammatical | st.binary(max_size=70).map(lambda raw: base64url.encode(raw).decode()),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_any_key_is_usable_or_set_aside(key: Any, changes: dict[str, Any], local: bool) -> None:  # noqa: ANN401, FBT001
    """A key with any members is read or rejected, and its neighbour always serves."""
    keys = KeySet.from_json(jwks({**key.public(), **changes}, signer("ES256", "neighbour")), local=local)
    assert len(keys.keys) + len(keys.rejected) == 2
    token = mint(signer("ES256", "neighbour"))
    if changes.get("kid") != "neighbour":
        assert keys.verify(parse_token(token), ["ES256"]).key.kid == "neighbour"


@bounded
@given(st.floats() | st.integers() | json_values)
def test_json_is_read_as_the_library_reads_it(value: object) -> None:
    """What is accepted has the library's value; what is refused, the library takes only by being lenient."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    check_json(data)


@bounded
@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.eE+-\\ut nNaI', max_size=40).map(str.encode))
def test_junk_is_read_as_the_library_reads_it(data: bytes) -> None:
    """Near-JSON that is accepted has the library's value."""
    check_json(data)


def check_json(data: bytes) -> None:
    """Compare with the standard library, types included."""
    try:
        value = parse_json(data)
    except ValueError:
        return
    assert repr(value) == repr(json.loads(data.decode("utf-8")))


@bounded
@given(st.binary(max_size=200))
def test_base64url_both_ways(raw: bytes) -> None:
    """What was encoded is decoded again, in the URL alphabet and without padding."""
    text = base64url.encode(raw)
    assert set(text.decode()) <= set(string.ascii_letters + string.digits + "-_")
    assert base64url.decode(text) == raw


ALPHABET: Final = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@bounded
@given(st.binary(max_size=12) | st.text(ALPHABET + "+/=\n ", max_size=12).map(str.encode))
def test_base64url_refuses_everything_else(text: bytes) -> None:
    """A text is decoded if and only if it is of the alphabet, of a possible length, and without bits left over."""
    in_alphabet = all(chr(char) in ALPHABET for char in text)
    left_over = {0: 1, 2: 16, 3: 4}.get(len(text) % 4)
    canonical = in_alphabet and left_over is not None and (not text or ALPHABET.index(chr(text[-1])) % left_over == 0)
    try:
        base64url.decode(text)
    except ValueError:
        assert not canonical
    else:
        assert canonical


# Identity


@bounded
@given(texts.filter(lambda text: text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)))
def test_identity_survives_or_is_refused(subject: str) -> None:
    """A subject reaches the upstream as it is, or percent-encoded, or the request is refused: never as another."""
    assume(subject)
    assert ISSUER_A.keys is not None
    claims = check(ISSUER_A.keys.verify(parse_token(mint(A_EC, sub=subject)), ["ES256"]), ISSUER_A.rules, T)
    rules = (header("x-user-id", "sub"),)
    encoded = dict(Identity(rules, unsafe_values=UnsafeValues.ENCODE).headers_for(claims).set)["x-user-id"]
    assert encoded.isascii()
    assert encoded.isprintable()
    assert encoded == encoded.strip()
    assert unquote(encoded) == subject
    safe = subject.isascii() and subject.isprintable() and subject == subject.strip(" ")
    try:
        plain = dict(Identity(rules).headers_for(claims).set)["x-user-id"]
    except Rejected:
        assert not safe
    else:
        assert safe
        assert plain == subject


@bounded
@given(
    st.lists(texts | scalars.filter(lambda value: value is not None), min_size=1, max_size=4),
    st.text(string.punctuation, min_size=1, max_size=3),
)
def test_joined_list_is_never_another_list(items: list[Any], join: str) -> None:
    """A list in one header splits into its own elements, or the request is refused."""
    try:
        token = mint(A_EC, c=items)
        snapshot = make_snapshot(identity=Identity((header("x-c", "c", join=join),)))
        decision = decide(token, snapshot=snapshot)
    except UnicodeEncodeError:
        return
    if isinstance(decision, Allow):
        written = dict(decision.set_headers)["x-c"]
        assert written.split(join) == [item if isinstance(item, str) else json.dumps(item) for item in items]


@bounded
@given(paths)
def test_target_has_one_reading(path: str) -> None:
    """A path that has a canonical form keeps it when it is read again, and its segments with it."""
    try:
        once = parse_target(ask(path=path)).path
    except Rejected:
        return
    assert parse_target(ask(path=once.text)).path == once
