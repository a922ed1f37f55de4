"""Proves the bounds of the core that keep any request within ten times the cost of a normal one.

Each is tried at the last value that is let in and at the first that is not. `python -m tests.bench.cost` measures them.
"""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

import pytest

from authz.core.binding import MAX_CERTIFICATE_CHARS, certificate_thumbprint
from authz.core.identity import MAX_CONNECTION_CHARS, Identity
from authz.core.reasons import Reason, Rejected
from authz.core.request import MAX_PATH_MARKS, parse_target
from authz.core.strictjson import COMMAS_PER_CONTAINER, MAX_CONTAINERS, MAX_NUMBER_CHARS, parse_json
from authz.core.strip_credentials import strip_credentials
from authz.core.token import (
    MAX_COOKIES,
    MAX_CREDENTIALS,
    MAX_PARAMETERS,
    MAX_TOKEN_BYTES,
    CookieSource,
    HeaderSource,
    QuerySource,
    find_token,
    parse_token,
)
from tests.fixtures import ask, decide, header, make_snapshot, mint

BEARER = HeaderSource("authorization", "Bearer")


@pytest.mark.parametrize("mark", ["/a", "%20"])
def test_marks_in_a_path(mark: str) -> None:
    """Slashes and escapes count together; a query does not."""
    most = MAX_PATH_MARKS - 1
    assert parse_target(ask(path="/" + "a".join([mark] * most) + "?" + "/" * 2000)).path.text
    with pytest.raises(Rejected, match="slashes and escapes") as rejected:
        parse_target(ask(path="/" + "a".join([mark] * (most + 1))))
    assert rejected.value.reason is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("source", [BEARER, HeaderSource("authorization")], ids=["scheme", "bare"])
def test_credentials_in_a_header(source: HeaderSource) -> None:
    """A header with too many commas is not taken apart."""
    with pytest.raises(Rejected) as rejected:
        find_token(ask(headers={"authorization": "," * MAX_CREDENTIALS}), (source,))
    assert rejected.value.reason is Reason.TOKEN_MALFORMED
    few = ask(headers={"authorization": "Bearer a" + ",Bearer a" * (MAX_CREDENTIALS - 1)})
    with pytest.raises(Rejected) as rejected:
        find_token(few, (source,))
    assert rejected.value.reason is Reason.TOKEN_MULTIPLE


def test_cookies_in_a_request() -> None:
    """Among as many cookies as are read, the token is found."""
    crowd = "; ".join(["a=1"] * (MAX_COOKIES - 1) + ["t=x"])
    found = find_token(ask(headers={"cookie": crowd}), (CookieSource("t"),))
    assert found is not None
    with pytest.raises(Rejected) as rejected:
        find_token(ask(headers={"cookie": crowd + ";"}), (CookieSource("t"),))
    assert rejected.value.reason is Reason.TOKEN_MALFORMED


def test_cookies_joined_by_commas() -> None:
    """Commas may stand in any number in cookies of other names; those of ours that begin behind one are counted."""
    crowd = ",".join(["a=1"] * 2 * MAX_COOKIES + ["t=x"])
    assert find_token(ask(headers={"cookie": crowd}), (CookieSource("t"),)) is not None
    with pytest.raises(Rejected) as rejected:
        find_token(ask(headers={"cookie": ",".join(["t="] * MAX_COOKIES)}), (CookieSource("t"),))
    assert rejected.value.reason is Reason.TOKEN_MALFORMED


def test_parameters_in_a_query() -> None:
    """Among as many parameters as are read, the token is found."""
    crowd = "/items?" + "&".join(["a=1"] * (MAX_PARAMETERS - 1) + ["t=x"])
    assert find_token(ask(path=crowd), (QuerySource("t"),)) is not None
    with pytest.raises(Rejected) as rejected:
        find_token(ask(path=crowd + "&"), (QuerySource("t"),))
    assert rejected.value.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("separator", [";", ","])
def test_no_token_among_too_many_cookies_is_forwarded(separator: str) -> None:
    """On a public path nothing is denied for them, and those of other names go on."""
    others = separator.join(["a=1"] * MAX_COOKIES)
    stripped = strip_credentials(ask(headers={"cookie": f"{others}{separator}t=x"}), (CookieSource("t"),))
    assert stripped.set == (("cookie", others),)


def test_header_of_too_many_credentials_is_withheld() -> None:
    """What is not taken apart may hold a token."""
    assert strip_credentials(ask(headers={"authorization": "Basic x" + "," * MAX_CREDENTIALS}), (BEARER,)).remove


def test_arrays_and_objects_in_a_text() -> None:
    """Brackets inside strings do not count."""
    assert parse_json(b"[" + b"{}," * (MAX_CONTAINERS - 2) + b"{}]")
    assert parse_json(b'["' + b"{[" * MAX_CONTAINERS + b'"]')
    with pytest.raises(ValueError, match="at most"):
        parse_json(b"[" + b"{}," * (MAX_CONTAINERS - 1) + b"{}]")


@pytest.mark.parametrize("part", [b"0.1,", b"1,", b'"",'], ids=["fractions", "numbers", "strings"])
def test_commas_in_a_text(part: bytes) -> None:
    """Values are counted by their commas before any is parsed; more containers allow more commas."""
    most = COMMAS_PER_CONTAINER * MAX_CONTAINERS
    assert parse_json(b"[" + part * most + b"0]")
    with pytest.raises(ValueError, match=f"{most + 1} commas, at most {most}"):
        parse_json(b"[" + part * (most + 1) + b"0]")
    assert parse_json(b"[" + part * (most + 1) + b"0]", max_containers=MAX_CONTAINERS + 1)


def test_commas_in_a_string() -> None:
    """They count too: to tell them apart would cost more than to read them."""
    most = COMMAS_PER_CONTAINER * MAX_CONTAINERS
    assert parse_json(b'"' + b"," * most + b'"')
    with pytest.raises(ValueError, match="commas, at most"):
        parse_json(b'"' + b"," * (most + 1) + b'"')


def test_groups_of_a_large_token() -> None:
    """The largest list of groups that a token has room for, with ids as providers write them, is far from the bound."""
    groups = [str(UUID(int=number)) for number in range(290)]
    signed = mint(memberships=groups)
    assert MAX_TOKEN_BYTES - 1024 < len(signed) <= MAX_TOKEN_BYTES
    assert decide(signed).reason is Reason.AUTHENTICATED
    assert parse_token(signed).payload.count(b",") < COMMAS_PER_CONTAINER * MAX_CONTAINERS / 5


def test_digits_of_a_number() -> None:
    """A long number is refused wherever it stands; a long string of digits is a string."""
    digits = "1" * MAX_NUMBER_CHARS
    assert parse_json(f'{{"a":{digits},"b":"{digits * 3}"}}'.encode()) == {"a": int(digits), "b": digits * 3}
    with pytest.raises(ValueError, match="too long"):
        parse_json(f'{{"a":1,"b":{digits}1}}'.encode())


def test_certificate_of_a_peer() -> None:
    """A certificate beyond the bound is none, and proves nothing."""
    pem = quote("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert certificate_thumbprint(pem.ljust(MAX_CERTIFICATE_CHARS)) is not None
    assert certificate_thumbprint(pem.ljust(MAX_CERTIFICATE_CHARS + 1)) is None


def test_connection_of_a_client() -> None:
    """A list of hop-by-hop headers that no one needs is not read."""
    snapshot = make_snapshot(identity=Identity((header("x-user-id", "sub"),)))
    most = "a," * (MAX_CONNECTION_CHARS // 2)
    assert decide(headers={"connection": most}, snapshot=snapshot).reason is not Reason.REQUEST_MALFORMED
    assert decide(headers={"connection": most + "a"}, snapshot=snapshot).reason is Reason.REQUEST_MALFORMED
