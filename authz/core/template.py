"""Templates: values with references to a request and to the claims of its token.

Rules of this file:
1. In a text, `${...}` is a reference, and `$${` stands for `${`. A text that is one reference keeps the type of its
   value; beside other text, a value is a string or an integer.
2. A plain reference, such as `${claims.org.id}` or `${request.headers["x-device"]}`, is looked up here. Anything else
   is an expression in CEL, with the variables of conditions.
3. What is absent (a claim, a parameter, a header, JSON null) is left out, together with the text around it. An
   expression without a result raises.
4. Messages contain text of the template and types, never values from a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from authz.core.claims import Claims
from authz.core.mismatch import describe
from authz.core.request import Request, Target, parse_target

MAX_TEMPLATE_CHARS: Final = 2048  # of one text
MAX_TEMPLATE_VALUES: Final = 200  # texts, numbers, lists and maps of one template
MAX_TEMPLATE_DEPTH: Final = 8

Template = object
"""A JSON value whose texts are `Text` or `Reference`."""


class TemplateError(ValueError):
    """Raised if a template is invalid; the message says why."""


class NoValueError(ValueError):
    """Raised if a template has no value for a request; the message contains no text from the request."""


class Expression(Protocol):
    """A compiled expression in CEL."""

    def evaluate(self, request: Request, params: Mapping[str, str], claims: Claims) -> object:
        """Return the JSON value of the expression. Raises NoResultError, a ValueError, if it has none."""


Compile = Callable[[str], Expression]
"""Compiles an expression in CEL. Raises ValueError."""


@dataclass(frozen=True, slots=True)
class Variables:
    """The values that references refer to."""

    request: Request
    target: Target
    params: Mapping[str, str]
    claims: Claims

    @classmethod
    def of(cls, request: Request, params: Mapping[str, str], claims: Claims) -> Variables:
        """Return the variables of a well-formed request."""
        return cls(request, parse_target(request), params, claims)


@dataclass(frozen=True, slots=True)
class Reference:
    """`${text}`: *names* lead from a variable to a value, or are empty for an *expression*."""

    text: str
    names: tuple[str, ...] = ()
    expression: Expression | None = field(default=None, compare=False, repr=False)

    def find(self, variables: Variables) -> object:
        """Return the value, or None if it is absent. Raises NoValueError."""
        if self.expression is not None:
            try:
                return self.expression.evaluate(variables.request, variables.params, variables.claims)
            except ValueError as error:
                raise NoValueError(f"${{{self.text}}} failed: {error}") from error
        names = self.names
        value = _VARIABLES[names[0]](variables)
        for name in names[1:]:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def find_text(self, variables: Variables) -> str | None:
        """Return a string, or an integer as one; None if it is absent. Raises NoValueError."""
        value = self.find(variables)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise NoValueError(f"${{{self.text}}} is {describe(value)}, where text is needed")


@dataclass(frozen=True, slots=True)
class Text:
    """A text, with or without references in it."""

    parts: tuple[str | Reference, ...]


_VARIABLES: Final[Mapping[str, Callable[[Variables], object]]] = {
    "claims": lambda variables: variables.claims.members,
    "params": lambda variables: variables.params,
    "context": lambda variables: variables.request.context,
    "request.headers": lambda variables: variables.request.headers,
    "request.method": lambda variables: variables.target.method,
    "request.host": lambda variables: variables.target.host or None,
    "request.path": lambda variables: variables.target.path.text,
    "request.scheme": lambda variables: variables.request.scheme or None,
    "source.address": lambda variables: variables.request.source_address or None,
}
_MAPS: Final = frozenset({"claims", "params", "context", "request.headers"})
_SAFE: Final = frozenset({"request.method", "request.host", "request.scheme", "source.address"})
_STEP: Final = r"""\.[A-Za-z_]\w*|\[\s*"[^"\\]*"\s*\]|\[\s*'[^'\\]*'\s*\]"""
_PLAIN: Final = re.compile(
    rf"(?P<variable>request\.(?:method|host|path|scheme|headers)|source\.address|claims|params|context)(?P<steps>(?:{_STEP})*)",
    re.ASCII,
)
_STEPS: Final = re.compile(_STEP, re.ASCII)
# The end of a reference in CEL is the first brace that closes it; braces in its string literals do not count.
_PART: Final = re.compile(r"\$\$\{|\$\{")
_IN_REFERENCE: Final = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[{}]""", re.DOTALL)


def parse_template(value: object, compile_expression: Compile) -> Template:
    """Read a template from JSON-like data. Raises TemplateError, or what *compile_expression* raises."""
    return _parse(value, compile_expression, [MAX_TEMPLATE_VALUES], MAX_TEMPLATE_DEPTH)


def _parse(value: object, compile_expression: Compile, left: list[int], depth: int) -> Template:
    left[0] -= 1
    if left[0] < 0 or depth < 0:
        raise TemplateError(f"has more than {MAX_TEMPLATE_VALUES} values, or is deeper than {MAX_TEMPLATE_DEPTH}")
    match value:
        case str():
            return parse_text(value, compile_expression)
        case Mapping():
            if not all(isinstance(name, str) for name in value):
                raise TemplateError("has a member whose name is not text")
            return {name: _parse(item, compile_expression, left, depth - 1) for name, item in value.items()}
        case list() | tuple():
            return [_parse(item, compile_expression, left, depth - 1) for item in value]
        case bool() | int() | float():
            return value
        case _:
            raise TemplateError("must be text, a number, true, false, a list or a mapping")


def parse_text(text: str, compile_expression: Compile) -> Text | Reference:
    """Read one text. Raises TemplateError, or what *compile_expression* raises."""
    if len(text) > MAX_TEMPLATE_CHARS:
        raise TemplateError(f"is longer than {MAX_TEMPLATE_CHARS} characters")
    parts: list[str | Reference] = []
    position = 0
    while (mark := _PART.search(text, position)) is not None:
        parts.append(text[position : mark.start()])
        if mark[0] == "$${":
            parts.append("${")
            position = mark.end()
            continue
        end = _find_end(text, mark.end())
        parts.append(_parse_reference(text[mark.end() : end].strip(), compile_expression))
        position = end + 1
    parts.append(text[position:])
    non_empty = tuple(part for part in parts if part != "")
    if len(non_empty) == 1 and isinstance(non_empty[0], Reference):
        return non_empty[0]
    return Text(non_empty)


def _find_end(text: str, start: int) -> int:
    depth = 1
    for match in _IN_REFERENCE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.start()
    raise TemplateError('has a "${" without its "}"; write "$${" for the two characters')


def _parse_reference(text: str, compile_expression: Compile) -> Reference:
    if not text:
        raise TemplateError('"${}" refers to nothing')
    match = _PLAIN.fullmatch(text)
    if match is not None and bool(match["steps"]) <= (match["variable"] in _MAPS):
        names = [_read_step(step) for step in _STEPS.findall(match["steps"])]
        if len(names) > 1 and match["variable"] != "claims":
            raise TemplateError(f"${{{text}}}: {match['variable']} has texts, which have no members")
        if match["variable"] == "request.headers":
            names = [name.lower() for name in names]
        return Reference(text, (match["variable"], *names))
    return Reference(text, expression=compile_expression(text))


def _read_step(step: str) -> str:
    return step[1:] if step.startswith(".") else step[1:-1].strip()[1:-1]


def references(template: Template) -> Iterator[Reference]:
    """Yield each reference of *template*."""
    match template:
        case Reference():
            yield template
        case Text(parts):
            yield from (part for part in parts if isinstance(part, Reference))
        case Mapping() | list():
            for item in template.values() if isinstance(template, Mapping) else template:
                yield from references(item)
        case _:
            pass


def render(template: Template, variables: Variables) -> object:
    """Return *template* with its references replaced; None if it is absent. Raises NoValueError."""
    match template:
        case Reference():
            return template.find(variables)
        case Text():
            return render_text(template, variables)
        case Mapping():
            rendered = {name: render(item, variables) for name, item in template.items()}
            return {name: value for name, value in rendered.items() if value is not None}
        case list():
            return [value for item in template if (value := render(item, variables)) is not None]
        case _:
            return template


def render_text(
    template: Text | Reference, variables: Variables, encode: Callable[[str], str] | None = None
) -> str | None:
    """Return the text with its references replaced, each encoded by *encode* if it is given; None if one is absent.

    Raises NoValueError.
    """
    if isinstance(template, Reference):
        text = template.find_text(variables)
        return text if text is None or encode is None else encode(text)
    rendered = ""
    for part in template.parts:
        if isinstance(part, str):
            rendered += part
            continue
        text = part.find_text(variables)
        if text is None:
            return None
        rendered += text if encode is None else encode(text)
    return rendered


def is_ambiguous(template: Template, *, never_in_values: str, never_in_params: str) -> bool:
    """Return whether two requests with different values may have the same text.

    That is the case if two values are adjacent, or separated only by text that the first one may contain.
    *never_in_values* are characters that no value has, *never_in_params* those that no path parameter has.
    """
    if not isinstance(template, Text):
        return False
    before: Reference | None = None
    between = ""
    for part in template.parts:
        if isinstance(part, str):
            between += part
            continue
        if before is not None and ".".join(before.names) not in _SAFE:
            never = never_in_values + (never_in_params if before.names[:1] == ("params",) else "")
            if not any(char in never for char in between):
                return True
        before, between = part, ""
    return False


_JSON: Final = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False)


def write_json(value: object) -> str:
    """Return *value* as JSON, on one line, in ASCII and sorted: equal values have equal texts.

    Raises NoValueError for a number that JSON does not have.
    """
    try:
        return _JSON.encode(value)
    except (ValueError, TypeError) as error:
        raise NoValueError("a value that JSON does not have") from error
