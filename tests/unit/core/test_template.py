"""Proves templates: what a reference finds, what is left out, and what two requests cannot have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from authz.core.claims import Claims
from authz.core.request import Request
from authz.core.template import (
    MAX_TEMPLATE_CHARS,
    MAX_TEMPLATE_DEPTH,
    MAX_TEMPLATE_VALUES,
    NoValueError,
    Reference,
    TemplateError,
    Text,
    Variables,
    is_ambiguous,
    parse_template,
    parse_text,
    references,
    render,
    render_text,
    write_json,
)

REQUEST: Final = Request(
    method="GET",
    host="API.test:8443",
    path="/orders/%37?x=1",
    scheme="https",
    headers={"x-device": "d1"},
    context={"authz.tier": "gold"},
    source_address="192.0.2.1",
)
CLAIMS: Final[Mapping[str, object]] = {
    "sub": "alice",
    "n": 7,
    "yes": True,
    "half": 1.5,
    "nothing": None,
    "empty": "",
    "roles": ["a", "b"],
    "realm_access": {"roles": ["editor"]},
    "https://example.com/tenant": "acme",
}


class Says:
    """An expression with a value, or with none."""

    def __init__(self, value: object) -> None:
        self._value = value

    def evaluate(self, request: Request, params: Mapping[str, str], claims: Claims) -> object:
        """Return the value."""
        if isinstance(self._value, ValueError):
            raise self._value
        return self._value


def no_expression(text: str) -> Says:
    """Compile nothing: what is asked for here is a plain reference."""
    raise ValueError(f"{text} is no plain reference")


def variables(request: Request = REQUEST, **params: str) -> Variables:
    """Where references look."""
    return Variables.of(request, params or {"id": "7"}, Claims(CLAIMS, b"", frozenset(), {}))


def rendered(template: object, expression: object = None) -> object:
    """Fill in a template whose expressions all have one value."""
    compiled = no_expression if expression is None else lambda _: Says(expression)
    return render(parse_template(template, compiled), variables())


PLAIN: Final[Mapping[str, object]] = {
    "${claims.sub}": "alice",
    "${ claims.n }": 7,
    "${claims.roles}": ["a", "b"],
    "${claims.realm_access.roles}": ["editor"],
    "${claims['https://example.com/tenant']}": "acme",
    '${claims["realm_access"].roles}': ["editor"],
    "${claims.nothing}": None,
    "${claims.zzz}": None,
    "${claims.sub.x}": None,
    "${claims}": CLAIMS,
    "${params.id}": "7",
    "${params['id']}": "7",
    "${params}": {"id": "7"},
    "${params.other}": None,
    '${context["authz.tier"]}': "gold",
    "${request.headers.x_device}": None,
    "${request.headers['X-Device']}": "d1",
    "${request.method}": "GET",
    "${request.host}": "api.test",
    "${request.path}": "/orders/7",
    "${request.scheme}": "https",
    "${source.address}": "192.0.2.1",
    "no reference": "no reference",
    "": "",
    "/orders/{id}": "/orders/{id}",
    "$5 and $ {x}": "$5 and $ {x}",
    "$${claims.sub}": "${claims.sub}",
    "order ${params.id} of ${claims.sub}, ${claims.n}": "order 7 of alice, 7",
    "$${${claims.sub}}": "${alice}",
    "order ${claims.zzz}": None,
}


@pytest.mark.parametrize(("template", "value"), PLAIN.items(), ids=PLAIN)
def test_a_plain_reference_is_looked_up(template: str, value: object) -> None:
    """It needs no CEL; alone it keeps the type, and what is absent takes the text around it along."""
    assert rendered(template) == value


def test_absent_members_are_left_out() -> None:
    """Of maps and of lists, at any depth; a member that is there keeps its value, also if it is empty."""
    template = {"a": "${claims.zzz}", "b": ["${claims.nothing}", "x", {"c": "${claims.zzz}", "d": 1}], "e": False}
    assert rendered(template) == {"b": ["x", {"d": 1}], "e": False}
    assert rendered({"a": "${claims.empty}"}) == {"a": ""}
    assert rendered({"a": 1.5, "b": (1, 2)}) == {"a": 1.5, "b": [1, 2]}


@pytest.mark.parametrize("claim", ["yes", "half", "roles", "realm_access"])
def test_only_text_and_integers_stand_beside_text(claim: str) -> None:
    """The message names the reference and the type, not the value."""
    with pytest.raises(NoValueError, match=rf"^\$\{{claims.{claim}\}} is an? \w+.*, where text is needed$") as failed:
        rendered(f"x ${{claims.{claim}}}")
    assert "editor" not in str(failed.value)


def test_what_is_no_plain_reference_is_an_expression() -> None:
    """Its braces and quotes do not end it; without a result it raises."""
    text = """${ {'a': "}", 'b': '\\'}'}.a }"""
    template = parse_text(text, lambda _: Says(["v"]))
    assert isinstance(template, Reference)
    assert template.text == """{'a': "}", 'b': '\\'}'}.a"""
    assert render(template, variables()) == ["v"]
    assert rendered("x ${1 + 1} y", 2) == "x 2 y"
    with pytest.raises(NoValueError, match=r"^\$\{f\(claims\)\} failed: no such key$"):
        rendered("${f(claims)}", ValueError("no such key"))


@pytest.mark.parametrize(
    ("template", "message"),
    {
        "${claims.sub": 'has a "\\${" without its "}"',
        "${'}'": 'has a "\\${" without its "}"',
        "${}": "refers to nothing",
        "${ }": "refers to nothing",
        "${params.id.x}": "params has texts, which have no members",
        "${request.headers.a.b}": "request.headers has texts",
        "${request.method.x}": "is no plain reference",
        "${claim.sub}": "is no plain reference",
        "${sub}": "is no plain reference",
        "${claims.a-b}": "is no plain reference",
        "x" * (MAX_TEMPLATE_CHARS + 1): "longer than",
    }.items(),
)
def test_what_cannot_be_read_is_refused_at_load(template: str, message: str) -> None:
    """No request ever finds it out."""
    with pytest.raises(ValueError, match=message):
        parse_text(template, no_expression)


def nested(depth: int) -> object:
    """Nest maps."""
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "must be text"),
        ({"a": object()}, "must be text"),
        ({1: "a"}, "whose name is not text"),
        ([1] * MAX_TEMPLATE_VALUES, "more than"),
        (nested(MAX_TEMPLATE_DEPTH + 1), "deeper than"),
    ],
)
def test_a_template_is_bounded_json(template: object, message: str) -> None:
    """YAML has more, and so do those who write it."""
    with pytest.raises(TemplateError, match=message):
        parse_template(template, no_expression)
    parse_template(nested(MAX_TEMPLATE_DEPTH), no_expression)
    parse_template([1] * (MAX_TEMPLATE_VALUES - 1), no_expression)


def test_references_are_found_everywhere() -> None:
    """In lists, maps and texts, in their order."""
    template = parse_template({"a": ["x ${claims.a} ${claims.b}", 1, True], "b": {"c": "${params.id}"}}, no_expression)
    assert [each.text for each in references(template)] == ["claims.a", "claims.b", "params.id"]


def test_values_are_encoded_and_the_text_between_them_is_not() -> None:
    """An id stays unambiguous, and keeps its form."""
    template = parse_text("org:${claims.sub}/${params.id}", no_expression)
    assert isinstance(template, Text)
    assert render_text(template, variables(), str.upper) == "org:ALICE/7"


AMBIGUOUS: Final = {
    "${params.a}": False,
    "one": False,
    "a-${params.a}": False,
    "${params.a}${params.b}": True,
    "${params.a}-${params.b}": True,
    "${params.a}/${params.b}": False,
    "${claims.org}/${params.b}": True,
    "${request.headers.x}/${params.b}": True,
    "${f(x)}/${params.b}": True,
    "${params.b}/${claims.org}": False,
    "${request.method} ${request.path}": False,
    "${request.host}${params.a}": False,
    "${params.a}/${params.b}-${params.c}": True,
    "${claims.org}:${params.b}": True,
}


@pytest.mark.parametrize(("text", "ambiguous"), AMBIGUOUS.items(), ids=AMBIGUOUS)
def test_ids_that_two_requests_could_share_are_known(text: str, ambiguous: bool) -> None:  # noqa: FBT001 - a table
    """`a-b` and `c`, `a` and `b-c`: between two values is something that the first cannot contain, or it is a risk."""
    template = parse_text(text, lambda _: Says(1))
    assert is_ambiguous(template, never_in_values="", never_in_params="/") is ambiguous
    if "/" in text or ":" in text:
        assert not is_ambiguous(template, never_in_values=":/", never_in_params="") or "-" in text


def test_an_id_of_no_text_is_not_ambiguous() -> None:
    """A single value is what it is."""
    assert not is_ambiguous({"a": 1}, never_in_values="", never_in_params="")


def test_equal_values_have_equal_json() -> None:
    """CEL's maps have no order of their own, and the text decides whether an answer is used again."""
    assert write_json({"b": 1, "a": "é"}) == write_json({"a": "é", "b": 1}) == '{"a":"\\u00e9","b":1}'
    bad: Any
    for bad in (float("nan"), {"a": float("inf")}, {1: 1, "a": 2}, {"a": object()}):
        with pytest.raises(NoValueError):
            write_json(bad)


def test_a_request_without_host_scheme_and_address_has_none() -> None:
    """Absent, and not an empty text: gRPC's own filter sends neither."""
    bare = variables(Request(method="GET", path="/"))
    for name in ("request.host", "request.scheme", "source.address"):
        assert render(parse_text(f"${{{name}}}", no_expression), bare) is None
