"""Translate pydantic's errors into the terms of the configuration file: one plain message for each mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, nearest, quote, render_path, suggest
from authz.config.section import Section, has_entries, section_in

Describe = Callable[[ErrorDetails], tuple[str, str]]
"""Returns a message and a hint for one of pydantic's errors."""


def pydantic_errors(error: ValidationError) -> Iterator[Problem]:
    """Yield a problem for each mistake. A required key that is only misspelt is one mistake, not two."""
    details = error.errors(include_url=False)
    corrected = set(misspelt_keys(details).values())
    for detail in details:
        if detail["type"] != "missing" or detail["loc"] not in corrected:
            message, hint = _message_for(detail["type"])(detail)
            yield Problem(path=detail["loc"], message=message, hint=hint)


def misspelt_keys(details: Sequence[ErrorDetails]) -> dict[KeyPath, KeyPath]:
    """Return the path of each unknown key with its most likely correction, empty if there is none."""
    unknown = (detail["loc"] for detail in details if detail["type"] == "extra_forbidden")
    return {path: _correct(path) for path in unknown}


def known_keys(path: KeyPath) -> tuple[str, ...]:
    """Return the keys that the section at *path* may have."""
    section = _section_at(path)
    return tuple(section.model_fields) if section else ()


def _section_at(path: KeyPath) -> type[Section] | None:
    section_type: object = Config
    for step in path:
        section = section_in(section_type)
        if section is None:
            return None
        # In a map or list, the step is the name or index of an entry.
        section_type = section if has_entries(section_type) else section.model_fields[str(step)].annotation
    return None if has_entries(section_type) else section_in(section_type)


def _missing(_: ErrorDetails) -> tuple[str, str]:
    return "is required", ""


def _unknown(detail: ErrorDetails) -> tuple[str, str]:
    path = detail["loc"]
    correct = _correct(path)[len(path) - 1 :]
    return "unknown key", f"did you mean `{render_path(correct)}`?" if correct else ""


def _correct(path: KeyPath) -> KeyPath:
    """Return the likely path of an unknown key: in a section next to it (`methods` in `match`), or a similar key."""
    above, key = path[:-1], str(path[-1])
    siblings = known_keys(above)
    moved = [(*above, sibling, key) for sibling in siblings if key in known_keys((*above, sibling))]
    near = nearest(key, siblings)
    return moved[0] if moved else (*above, near) if near else ()


def _choice(detail: ErrorDetails) -> tuple[str, str]:
    choices = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
    value = detail["input"]
    hint = suggest(value, choices) if isinstance(value, str) else ""
    return f"must be {_list(choices)}, not {_show(value)}", hint


def _list(choices: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def _show(value: object) -> str:
    return quote(value) if isinstance(value, str) else _kind(value)


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return "empty"


def _must_be(requirement: str, hint: Callable[[object], str] = lambda _: "") -> Describe:
    return lambda detail: (f"must be {requirement}, not {_kind(detail['input'])}", hint(detail["input"]))


def _hint_for_text(value: object) -> str:
    return "" if isinstance(value, list | dict) else "put it in quotes"


def _hint_for_number(value: object) -> str:
    return "leave out the quotes" if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) else ""


def _hint_for_bool(value: object) -> str:
    words = {"yes": "true", "on": "true", "no": "false", "off": "false", "true": "true", "false": "false"}
    word = words.get(value.lower()) if isinstance(value, str) else None
    return f"write {word}" if word else ""


def _hint_for_list(value: object) -> str:
    return f"write [{value}]" if isinstance(value, str) and value.isprintable() and len(value) <= 60 else ""


def _message_for(kind: str) -> Describe:
    return _DESCRIBERS.get(kind, _unchanged)


def _unchanged(detail: ErrorDetails) -> tuple[str, str]:
    message = detail["msg"]
    return message[:1].lower() + message[1:], ""


_LIST: Final = _must_be("a list", _hint_for_list)
_MAPPING: Final = _must_be("a mapping")
_NUMBER: Final = _must_be("a number", _hint_for_number)

_DESCRIBERS: Final[Mapping[str, Describe]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "enum": _choice,
    "string_type": _must_be("text", _hint_for_text),
    "bool_type": _must_be("true or false", _hint_for_bool),
    "int_type": _must_be("a whole number", _hint_for_number),
    "float_type": _NUMBER,
    "tuple_type": _LIST,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "greater_than_equal": lambda detail: (f"must be at least {detail['ctx']['ge']:g}", ""),
    "less_than_equal": lambda detail: (f"must be at most {detail['ctx']['le']:g}", ""),
    "value_error": lambda detail: (str(detail["ctx"]["error"]), ""),
}
