"""Proves authz.core.identity."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from urllib.parse import unquote

import pytest

from authz.core import base64url
from authz.core.claims import ClaimPath, Claims, check
from authz.core.identity import (
    MAX_HEADERS_BYTES,
    MAX_SEPARATORS,
    ConstantHeader,
    Format,
    HeaderChanges,
    HeaderRule,
    Identity,
    MetadataClaim,
    PayloadHeader,
    UnsafeValues,
    separator_variants,
)
from authz.core.reasons import Reason, Rejected
from authz.core.token import parse_token
from tests.fixtures import ISSUER_A, T, ask, header, mint


def claims_of(members: Mapping[str, object] | None = None) -> Claims:
    """Check good claims with changes."""
    assert ISSUER_A.keys is not None
    return check(ISSUER_A.keys.verify(parse_token(mint(claims=members or {})), ["RS256"]), ISSUER_A.rules, T)


def write(rule: HeaderRule, value: object = "bob", *, encode: bool = False) -> str | None:
    """Write one header from a claim `c` of that value; None where it is removed instead."""
    identity = Identity((rule,), unsafe_values=UnsafeValues.ENCODE if encode else UnsafeValues.DENY)
    changes = identity.headers_for(claims_of({"c": value}))
    assert not {name for name, _ in changes.set} & set(changes.remove)
    return dict(changes.set).get("x-c")


TEXT, JOINED = header("x-c", "c"), header("x-c", "c", join=",")
AS_JSON, AS_BASE64 = header("x-c", "c", format=Format.JSON), header("x-c", "c", format=Format.BASE64URL)
WRITTEN: dict[str, tuple[HeaderRule, object, str | None]] = {
    "text": (TEXT, "bob", "bob"),
    "text-of-all-that-is-visible": (TEXT, "!~ a%20,\"b'", "!~ a%20,\"b'"),
    "empty-text-removes": (TEXT, "", None),
    "null-removes": (TEXT, None, None),
    "number": (TEXT, 7, "7"),
    "number-with-fraction": (TEXT, 1.5, "1.5"),
    "zero": (TEXT, 0, "0"),
    "truth": (TEXT, True, "true"),
    "falsehood": (TEXT, False, "false"),
    "list": (JOINED, ["a", 1, True, "b c"], "a,1,true,b c"),
    "list-of-one": (JOINED, ["a"], "a"),
    "empty-list-removes": (JOINED, [], None),
    "scalar-where-a-list-may-be": (JOINED, "a,b", "a,b"),
    "json-object": (AS_JSON, {"a": [1, "é"]}, '{"a":[1,"\\u00e9"]}'),
    "json-text": (AS_JSON, "é\n", '"\\u00e9\\n"'),
    "json-list": (AS_JSON, ["a,b", None], '["a,b",null]'),
    "base64url-text": (AS_BASE64, "é\r\n", base64url.encode("é\r\n".encode()).decode()),
    "base64url-object": (AS_BASE64, {"a": 1}, base64url.encode(b'{"a":1}').decode()),
    "base64url-number": (AS_BASE64, 7, base64url.encode(b"7").decode()),
    "constant": (ConstantHeader(header="x-c", value="edge"), "bob", "edge"),
}


@pytest.mark.parametrize(("rule", "value", "written"), WRITTEN.values(), ids=WRITTEN)
def test_written(rule: HeaderRule, value: object, written: str | None) -> None:
    """A claim is written in the configured form, always in the same way; nothing to write removes the header."""
    assert write(rule, value) == written


UNSAFE: dict[str, tuple[HeaderRule, object]] = {
    "newline": (TEXT, "a\r\nx-admin: 1"),
    "nul": (TEXT, "a\0"),
    "delete": (TEXT, "a\x7f"),
    "tab": (TEXT, "a\tb"),
    "umlaut": (TEXT, "Zoë"),
    "emoji": (TEXT, "😀"),
    "leading-space": (TEXT, " a"),
    "trailing-space": (TEXT, "a "),
    "trailing-space-of-a-word": (TEXT, "ab "),
    "space-alone": (TEXT, " "),
    "list-without-a-form": (TEXT, ["a"]),
    "object-without-a-form": (TEXT, {"a": 1}),
    "object-where-a-list-may-be": (JOINED, {"a": 1}),
    "list-in-a-list": (JOINED, [["a"]]),
    "null-in-a-list": (JOINED, [None]),
    "empty-element": (JOINED, ["a", ""]),
    "element-with-what-joins": (JOINED, ["a,b"]),
    "element-with-a-space-before": (JOINED, ["a", " b"]),
    "element-with-a-newline": (JOINED, ["a", "b\n"]),
    "too-long": (TEXT, "a" * MAX_HEADERS_BYTES),
}


@pytest.mark.parametrize(("rule", "value"), UNSAFE.values(), ids=UNSAFE)
def test_unsafe(rule: HeaderRule, value: object) -> None:
    """What no header can carry as it is, or what could be read as something else, is refused."""
    with pytest.raises(Rejected) as caught:
        write(rule, value)
    assert caught.value.reason is Reason.HEADER_UNSAFE


ENCODED = {
    "plain": "bob",
    "percent": "100%",
    "escape": "%41",
    "umlaut": "Zoe\u0308 \u6f22",
    "emoji": "👩‍🚀",
    "newline": "a\r\nb",
    "nul": "\0",
    "delete": "\x7f",
    "leading-space": "  a",
    "trailing-space": "a  ",
    "tabs-at-the-ends": "\ta\t",
    "capitals-at-the-ends": "XaX",
    "spaces-alone": "   ",
    "space-inside": "a b",
    "all-of-latin-1": "".join(map(chr, range(256))),
    "right-to-left": "\u202eabc",
    "byte-order-mark": "\ufeffa",
    "last-character": "\U0010ffff",
}


@pytest.mark.parametrize("value", ENCODED.values(), ids=ENCODED)
def test_encoded(value: str) -> None:
    """Where encoding is chosen every text becomes printable ASCII, survives trimming, and can be decoded."""
    written = write(TEXT, value, encode=True)
    assert written is not None
    assert written.isascii()
    assert written.isprintable()
    assert written == written.strip()
    assert unquote(written) == value


def test_encoding_leaves_what_is_visible() -> None:
    """Of what a header can carry only the percent sign is encoded."""
    assert write(TEXT, 'a, "b"; c=/d~ 5%', encode=True) == 'a, "b"; c=/d~ 5%25'


@pytest.mark.parametrize(
    ("join", "elements"),
    [
        (",", ["a,b", "c"]),
        (",", [",", ",,"]),
        (",", ["a%2Cb", "a,b"]),
        (",", ["é", "b c"]),
        (",", [" a", "b "]),
        (", ", ["a,", "b"]),
        (" ", ["a b"]),
        (",", [" a,b"]),
        ("-", ["a-b"]),
        (",,", ["a,", ",b"]),
    ],
)
def test_encoded_list(join: str, elements: list[str]) -> None:
    """An encoded list survives trimming, and splits into the elements that it was made of."""
    written = write(header("x-c", "c", join=join), elements, encode=True)
    assert written is not None
    assert written == written.strip()
    assert [unquote(part) for part in written.split(join)] == elements


@pytest.mark.parametrize(
    ("join", "elements"),
    [
        (",", ["a,b"]),
        ("-", ["a-b"]),
        (", ", ["a, b"]),
        (",,", ["a,", ",b"]),
    ],
    ids=str,
)
def test_list_with_two_readings(join: str, elements: list[str]) -> None:
    """Without encoding, a list that would be read as another one is refused."""
    with pytest.raises(Rejected) as caught:
        write(header("x-c", "c", join=join), elements)
    assert caught.value.reason is Reason.HEADER_UNSAFE


@pytest.mark.parametrize("value", [[""], ["a", ""], [["a"]], [{}]], ids=str)
def test_encoding_does_not_help(value: object) -> None:
    """An empty element, or one without a form, is unsafe however texts are written."""
    with pytest.raises(Rejected) as caught:
        write(JOINED, value, encode=True)
    assert caught.value.reason is Reason.HEADER_UNSAFE


def test_missing_claim_removes_the_header() -> None:
    """Where there is nothing to say the header is removed: a client's own must not stand."""
    identity = Identity((header("x-c", "c"),))
    assert identity.headers_for(claims_of()) == HeaderChanges(remove=("x-c", "x_c"))


def test_payload() -> None:
    """The whole payload goes on as it was signed in base64url, or as JSON in ASCII."""
    members = {"name": "Zoë"}
    plain, coded = PayloadHeader(header="x-c"), PayloadHeader(header="x-c", format=Format.JSON)
    claims = claims_of(members)
    assert dict(Identity((plain,)).headers_for(claims).set)["x-c"] == base64url.encode(claims.payload).decode()
    written = dict(Identity((coded,)).headers_for(claims).set)["x-c"]
    assert json.loads(written) == claims.members
    assert written.isascii()


def test_size_of_all_headers_is_bounded() -> None:
    """Names and values of all headers count together, and the bound itself is allowed."""
    rules = (header("x-c", "c"), header("x-d", "c"))
    half = MAX_HEADERS_BYTES // 2 - len("x-c")
    assert len(Identity(rules).headers_for(claims_of({"c": "a" * half})).set) == 2
    with pytest.raises(Rejected, match="8194 octets"):
        Identity(rules).headers_for(claims_of({"c": "a" * (half + 1)}))


# Hygiene

NAMES = ["x-user-id", "x-user-groups", "x_mixed-name", "plain"]


def test_spellings_are_all_there_are() -> None:
    """Every way to write a name with - and _ is listed once, its own included."""
    assert set(separator_variants("x-user_id")) == {"x-user-id", "x-user_id", "x_user-id", "x_user_id"}
    assert separator_variants("plain") == ("plain",)
    assert len(set(separator_variants("a-b-c-d-e-f"))) == 2**MAX_SEPARATORS


def test_too_many_spellings() -> None:
    """A name with more separators than the bound cannot be configured."""
    with pytest.raises(ValueError, match="6 separators, at most 5"):
        separator_variants("a-b-c-d-e-f-g")


@pytest.mark.parametrize("present", list(itertools.product([True, False], repeat=2)), ids=str)
def test_every_name_is_set_or_removed(present: tuple[bool, bool]) -> None:
    """Each spelling of each header is overwritten or removed, never both, whatever the claims have to say."""
    identity = Identity(tuple(header(name, f"c{at}") for at, name in enumerate(NAMES)))
    members = {f"c{at}": "v" for at, there in enumerate(present) if there}
    changes = identity.headers_for(claims_of(members))
    every = [spelling for name in NAMES for spelling in separator_variants(name)]
    names = [name for name, _ in changes.set] + list(changes.remove)
    assert sorted(names) == sorted(set(every))
    assert [name for name, _ in changes.set] == [NAMES[at] for at, there in enumerate(present) if there]


@pytest.mark.parametrize(
    ("connection", "refused"),
    [
        ("x-c", True),
        ("Upgrade, X-C", True),
        ("upgrade,\tx_c ,close", True),
        ("upgrade", False),
        ("x-c2, xx-c", False),
        ("", False),
        (None, False),
    ],
)
def test_client_cannot_have_identity_dropped(connection: str | None, refused: bool) -> None:  # noqa: FBT001
    """A connection header that names an identity header would have the next proxy drop it (RFC 9110 section 7.6.1)."""
    request = ask(headers={} if connection is None else {"connection": connection})
    expected = pytest.raises(Rejected, match="connection names") if refused else nullcontext()
    with expected:
        Identity((TEXT,)).reject_connection_nominated_headers(request)


def test_two_headers_that_are_spellings_of_each_other() -> None:
    """Two configured headers that a CGI would confuse are each set to their own, and not removed."""
    identity = Identity((header("x-a", "sub"), ConstantHeader(header="x_a", value="edge")))
    assert identity.headers_for(claims_of()) == HeaderChanges((("x-a", "bob"), ("x_a", "edge")))


def test_headers_are_written_once_for_each_identity() -> None:
    """Claims that are used again keep their headers; after a reload they get those of the new identity."""
    claims = claims_of({"c": "bob"})
    before, after = Identity((header("x-c", "c"),)), Identity((header("x-d", "c"),))
    written = before.headers_for(claims)
    assert before.headers_for(claims) is written
    assert after.headers_for(claims) == HeaderChanges((("x-d", "bob"),), ("x_d",))
    assert before.headers_for(claims) == written


def test_nobody() -> None:
    """For no one in particular all headers are removed, a constant one included."""
    identity = Identity((header("x-c", "c"), ConstantHeader(header="x-gateway", value="edge")))
    assert identity.strip_all == HeaderChanges(remove=("x-c", "x_c", "x-gateway", "x_gateway"))
    assert Identity().strip_all == HeaderChanges()


def test_copied_claims() -> None:
    """Claims for Envoy's metadata keep their type; absent ones are left out."""
    copied = [MetadataClaim(name, ClaimPath.parse(name)) for name in ("sub", "groups", "deep.n", "none", "decision")]
    members: dict[str, Any] = {"deep": {"n": 1}, "decision": "allow"}
    assert Identity(metadata=tuple(copied)).metadata_for(claims_of(members)) == {
        "sub": "bob",
        "groups": ["admin", "staff"],
        "deep.n": 1,
        "decision": "allow",
    }
