"""Parse YAML text to plain data, with the line number of every key and item.

Rules:
1. Only the types of the YAML 1.2 core schema (section 10.3): `NO`, `1:30` and `2024-01-01` are text, `0660` is 660.
2. No anchors, aliases, merge keys, tags, further documents or duplicate keys: the data is what the text shows.
3. Every key is text.
4. Size and depth are bounded, so that no file can exhaust memory or the stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from authz.config.problems import ConfigError, KeyPath, Problem, quote
from authz.config.text import MAX_DOCUMENT_BYTES

MAX_DEPTH: Final = 32
_MAX_NUMBER_CHARS: Final = 32

_PARSER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {word: value for value in (True, False) for word in (str(value), str(value).lower(), str(value).upper())}
_NUMBERS: Final[tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...]] = (
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
_INF_OR_NAN: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Document:
    """The plain *data* of one file, and the problems of its text.

    *lines* counts from 1. *unread* are the paths of values that could not be read: *data* is not valid there.
    """

    file: str
    data: object
    lines: Mapping[KeyPath, int]
    problems: tuple[Problem, ...]
    unread: frozenset[KeyPath]

    def line_of(self, path: KeyPath) -> int:
        """Return the line of a value, or of the nearest mapping or list around a missing value."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def locate(self, problem: Problem) -> Problem:
        """Add the line of its value to a problem, unless it has one."""
        return replace(problem, line=problem.line or self.line_of(problem.path))


def parse_document(text: str, *, file: str) -> Document:
    """Parse the one YAML document in *text*. Raises ConfigError if the text is not YAML, or exceeds a bound."""
    if len(text) > MAX_DOCUMENT_BYTES:
        raise ConfigError(file, [Problem(path=(), message=f"is larger than {MAX_DOCUMENT_BYTES} bytes")])
    reader = _Reader()
    try:
        data = reader.read(yaml.parse(text, Loader=_PARSER))
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(file, [*reader.problems, _syntax_problem(error, text)]) from error
    except _OutOfBoundsError as error:
        raise ConfigError(file, [*reader.problems, error.problem]) from error
    return Document(file, data, reader.lines, tuple(reader.problems), frozenset(reader.unread))


class _OutOfBoundsError(Exception):
    """Raised if reading must stop at once."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class _Reader:
    """Turns parser events into data, in order, and notes lines and problems.

    It reads events instead of PyYAML's nodes, because those are created by recursion in C and expand aliases silently.
    """

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self.unread: set[KeyPath] = set()

    def read(self, events: Iterator[Event]) -> object:
        data: object = None
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._report((), event, "a second document begins here", "a file contains one configuration")
                    break
                data = self._value(next(events), (), events)
        return data

    def _value(self, event: Event, path: KeyPath, events: Iterator[Event]) -> object:
        self.lines.setdefault(path, _line(event))
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor is not None):
            self._report(path, event, "anchors and aliases are not supported", "write the value out", unread=True)
        elif isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            self._report(path, event, f"the tag {_short(event.tag)} is not supported", unread=True)
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, CollectionStartEvent) and len(path) >= MAX_DEPTH:
            message = f"is nested more than {MAX_DEPTH} levels deep"
            raise _OutOfBoundsError(Problem(path=(), message=message, line=_line(event)))
        if isinstance(event, MappingStartEvent):
            return self._mapping(path, events)
        if isinstance(event, CollectionStartEvent):
            return self._sequence(path, events)
        return None  # an alias

    def _sequence(self, path: KeyPath, events: Iterator[Event]) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), events))
        return items

    def _mapping(self, path: KeyPath, events: Iterator[Event]) -> dict[str, object]:
        entries: dict[str, object] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            key = self._key(event, path)
            if key is None or (*path, key) in self.lines:
                if key is not None:
                    first = self.lines[*path, key]
                    self._report((*path, key), event, f"duplicate key, first on line {first}")
                _skip(event, events)
                _skip(next(events), events)
                continue
            self.lines[*path, key] = _line(event)
            entries[key] = self._value(next(events), (*path, key), events)
        return entries

    def _key(self, event: Event, path: KeyPath) -> str | None:
        """Return the text of a key, or None for an invalid key (rules 2 and 3)."""
        if not isinstance(event, ScalarEvent) or event.anchor is not None or event.tag is not None:
            self._report(
                path, event, "a key must be plain text", "quote a value that begins with {, [, &, * or !", unread=True
            )
            return None
        if event.value == "<<" and not event.style:
            self._report(path, event, "merge keys (<<) are not supported", "write the keys out", unread=True)
            return None
        if not isinstance(self._scalar(event, path), str):
            self._report(path, event, f"the key {quote(event.value)} must be text", "put it in quotes", unread=True)
            return None
        return event.value

    def _scalar(self, event: ScalarEvent, path: KeyPath) -> object:
        if event.style:
            return event.value
        try:
            return _core_type(event.value)
        except ValueError as error:
            self._report(path, event, str(error), "put text in quotes", unread=True)
            return None

    def _report(self, path: KeyPath, event: Event, message: str, hint: str = "", *, unread: bool = False) -> None:
        self.problems.append(Problem(path=path, message=message, hint=hint, line=_line(event)))
        if unread:
            self.unread.add(path)


def _core_type(text: str) -> object:
    """Resolve a plain scalar by the core schema (YAML 1.2.2 section 10.3.2). Raises ValueError for a huge number."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in "-+.0123456789":
        return text
    for pattern, number in _NUMBERS:
        if pattern.fullmatch(text):
            # The conversion of digits takes quadratic time.
            if len(text) > _MAX_NUMBER_CHARS:
                raise ValueError(f"the number {quote(text)} has more than {_MAX_NUMBER_CHARS} characters")
            return number(text)
    return float(text.replace(".", "", 1)) if _INF_OR_NAN.fullmatch(text) else text


def _short(tag: str) -> str:
    return quote(tag.replace("tag:yaml.org,2002:", "!!", 1))


def _skip(event: Event, events: Iterator[Event]) -> None:
    """Skip the value that *event* begins."""
    depth = 0
    while True:
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth == 0:
            return
        event = next(events)


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _syntax_problem(error: yaml.YAMLError | UnicodeError, text: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line = error.problem_mark.line + 1
        written = text.splitlines()[line - 1 : line]
        hint = "indent with spaces, not with a tab" if written and written[0].lstrip(" ").startswith("\t") else ""
        return Problem(path=(), message=f"not valid YAML: {error.problem}", hint=hint, line=line)
    return Problem(path=(), message="not valid YAML: contains characters that YAML does not allow")
