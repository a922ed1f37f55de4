"""Proves that YAML is read as YAML 1.2, with positions, within bounds, and without surprises."""

from __future__ import annotations

import pytest

from authz.config.document import MAX_DEPTH, Document, parse_document
from authz.config.problems import ConfigError, Problem
from authz.config.text import MAX_DOCUMENT_BYTES


def read(text: str) -> Document:
    """Read a document under a name."""
    return parse_document(text, file="authz.yaml")


def refusal(text: str) -> str:
    """Read a document that cannot be read, and return why."""
    with pytest.raises(ConfigError) as refused:
        read(text)
    return str(refused.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("0x", "0x"),
        ("=", "="),
        ("<<", "<<"),
        ("tRue", "tRue"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("'~'", "~"),
        ("|-\n  true", "true"),
        ("0660", 660),
        ("0o660", 432),
        ("0xFf", 255),
        ("-12", -12),
        ("+3", 3),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_core_schema(written: str, value: object) -> None:
    """A plain scalar has the type that YAML 1.2.2 section 10.3.2 gives it; a quoted one is text."""
    data = read(f"key: {written}\n").data
    assert data == {"key": value}
    assert isinstance(data, dict)
    assert type(data["key"]) is type(value)


def test_not_a_number() -> None:
    """.nan is a float that differs from itself."""
    data = read(".nan").data
    assert data != data  # noqa: PLR0124 - this is what NaN does


def test_lines() -> None:
    """Every key and every item keeps its line; what is missing has the line of what is around it."""
    document = read("a: 1\nb:\n  - c: 2\n    d:\n      [3,\n      4]\n")
    assert document.lines == {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 0, "c"): 3,
        ("b", 0, "d"): 4,
        ("b", 0, "d", 0): 5,
        ("b", 0, "d", 1): 6,
    }
    assert document.locate(Problem(path=("b", 0, "e", "f"), message="is required")).line == 3
    assert document.locate(Problem(path=("z",), message="is required")).line == 1
    assert document.locate(Problem(path=("b",), message="is odd", line=7)).line == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "3: a: duplicate key, first on line 1"),
        ("a: 1\n'a': {b: [c]}\nd: 4", "2: a: duplicate key, first on line 1"),
        ("a: {b: 1, c: 2, b: 3}", "1: a.b: duplicate key, first on line 1"),
        ("a: &x 1", "1: a: anchors and aliases are not supported (write the value out)"),
        ("a:\n  <<: {b: 1}\n", "2: a: merge keys (<<) are not supported (write the keys out)"),
        ("a: !!str 1", "1: a: the tag '!!str' is not supported"),
        ("a: !secret x", "1: a: the tag '!secret' is not supported"),
        ("a: !!set {b}", "1: a: the tag '!!set' is not supported"),
        ("a:\n  yes: 1\n  true: 2", "3: a: the key 'true' must be text (put it in quotes)"),
        ("&x a: 1", "1: a key must be plain text (quote a value that begins with {, [, &, * or !)"),
        ("!x a: 1", "1: a key must be plain text (quote a value that begins with {, [, &, * or !)"),
        ("? [a]\n: b", "1: a key must be plain text (quote a value that begins with {, [, &, * or !)"),
        ("{{ .Values.port }}", "1: a key must be plain text (quote a value that begins with {, [, &, * or !)"),
        ("a: 1\n---\nb: 2", "2: a second document begins here (a file contains one configuration)"),
        (f"a: {'9' * 33}", f"1: a: the number '{'9' * 33}' has more than 32 characters (put text in quotes)"),
    ],
)
def test_surprises_are_reported(text: str, said: str) -> None:
    """What YAML allows and a reader would stumble on is a problem, with its line, and reading goes on."""
    document = read(text)
    assert [f"{problem.line}: {problem}" for problem in document.problems] == [said]


def test_duplicate_key_keeps_the_first_value() -> None:
    """The second value of a key is not looked at: no later problem can be about it."""
    document = read("a: 1\na: {b: 2, a: &x 3}\nc: 4")
    assert document.data == {"a": 1, "c": 4}
    assert len(document.problems) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b: c", "authz.yaml:1: not valid YAML: mapping values are not allowed in this context"),
        ("a:\n\tb: 1", "authz.yaml:2: not valid YAML: found character that cannot start any token"),
        ("a: [1\nb: 2", "authz.yaml:2: not valid YAML:"),
        ("a: \x07", "authz.yaml: not valid YAML: contains characters that YAML does not allow"),
        ("a: \ud800", "authz.yaml: not valid YAML: contains characters that YAML does not allow"),
        ("[" * (MAX_DEPTH + 1), f"authz.yaml:1: is nested more than {MAX_DEPTH} levels deep"),
        ("[" * 100_000, "authz.yaml:1: "),  # PyYAML 6.0.4 has a bound of its own, and looks ahead
        ("a: x\n" * (MAX_DOCUMENT_BYTES // 5 + 1), f"authz.yaml: is larger than {MAX_DOCUMENT_BYTES} bytes"),
    ],
    ids=["colon", "tab", "open", "control", "surrogate", "deep", "abyss", "large"],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    """A file that is no YAML, or out of bounds, is refused with one message and its line."""
    assert refusal(text).startswith(said)


def test_tab_hint() -> None:
    """A tab that indents is called by its name."""
    assert refusal("a:\n\tb: 1").endswith("(indent with spaces, not with a tab)")


def test_aliases_cannot_grow() -> None:
    """Aliases of aliases, which would expand to a billion items, are not expanded."""
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
    document = read("\n".join(lines))
    assert isinstance(document.data, dict)
    assert document.data["a9"] == [None] * 9
    assert ("a9", 0) in document.unread


def test_depth_within_the_bound() -> None:
    """The deepest document that is allowed is read."""
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH).data
