"""The reference of the configuration file in Markdown, generated from the model.

1. A small section has its keys in the list of the section above, as `section.key`.
2. A setting that several sections share is described once; each section only lists what it has of its own.
3. Keys of a section that follow each other and have the same meaning share a line.
4. A section whose keys another one has too refers to it, and so does a long default that was shown before.
5. A list or map without a default is shown with an example from a sample file: its value there, or in a comment with an
   alternative. The name and the meaning of a key say enough for text. A switch without a value is off.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import yaml

from authz.config.checks.bounds import BOUNDS
from authz.config.document import parse_document
from authz.config.problems import ConfigError
from authz.config.schema import json_schema
from authz.config.settings import RESTART_REQUIRED, SETTINGS

Schema = Mapping[str, Any]
Path = tuple[str, ...]

_COMMENTED_LINE: Final = re.compile(r"^(?P<indent> +)# (?P<entry>(?:- )?[a-z_-]+: .*)$", re.MULTILINE)
_COMMENTED_BLOCK: Final = re.compile(r"^# [a-z]+:.*\n(?:#   .*\n?)+", re.MULTILINE)
_RESTART: Final = "*Restart.*"
_ENVOY: Final = "*Envoy.*"
_NAMED: Final = frozenset({("issuers",), ("pdps",), ("identity", "headers"), ("signing", "keys")})
_MAX_INLINED: Final = 4  # keys of a section that is shown in the list of the section above
_MAX_INLINED_AT_TOP: Final = 2
_MIN_SHARED: Final = 3  # sections with the same key and meaning
_EVIDENT: Final = frozenset({"string", "array", "object", "boolean"})  # types that example or meaning shows
_MAX_REPEATED: Final = 60  # characters of a default that is shown more than once

ENVOY_DEPENDS_ON: Final = frozenset(path for path, setting in SETTINGS.items() if setting.envoy)
"""The settings that Envoy's configuration depends on: after a change, run `authz envoy-config` again."""


@dataclass(frozen=True, slots=True)
class _Section:
    """A mapping with named keys; *path* has a `*` for each freely chosen name and each list item."""

    path: Path
    schema: Schema

    @property
    def title(self) -> str:
        """The path with NAME and [] instead of `*`."""
        return ".".join(_name(self.path, index) for index in range(len(self.path))).replace(".[]", "[]")

    @property
    def anchor(self) -> str:
        """The address of its heading in the page."""
        return f"#{re.sub(r'[^a-z0-9_-]', '', self.title.lower())}"


@dataclass(frozen=True, slots=True)
class _Line:
    """A key with its value in brackets, and its meaning with its marks."""

    key: str
    meaning: str


def write_reference(sample: str) -> str:
    """Return the reference as Markdown, with examples from *sample*, a configuration file with commented variants."""
    return _Reference(json_schema(), _find_examples(sample)).write()


def key_paths() -> Iterator[str]:
    """Yield the path of every key of the model, such as `issuers.*.fetch.timeout`."""
    schema = json_schema()
    for section in _sections(_Section((), schema), schema):
        yield from (".".join((*section.path, key)) for key in section.schema["properties"])


def _sections(section: _Section, schema: Schema) -> Iterator[_Section]:
    """Yield *section* and all below it, in the order of the model."""
    yield section
    for key, node in section.schema["properties"].items():
        path = (*section.path, key)
        for steps, child in (((), node), (("*",), node.get("items")), (("*",), node.get("additionalProperties"))):
            target = _resolve(child, schema) if isinstance(child, dict) else {}
            if "properties" in target:
                yield from _sections(_Section((*path, *steps), target), schema)


class _Reference:
    """The page, for a *schema* and *examples* by path."""

    def __init__(self, schema: Schema, examples: Mapping[Path, object]) -> None:
        self._schema: Final = schema
        self._examples: Final = examples
        self._sections: Final = tuple(_sections(_Section((), schema), schema))
        own = [section for section in self._sections if not self._is_inlined(section)]
        keys = (pair for section in own for pair in section.schema["properties"].items())
        meanings = Counter((key, self._meaning(node)) for key, node in keys if not self._is_section(node))
        self._long: Final[dict[str, Path]] = {}  # where each long value is shown
        self._shared: Final = {pair for pair, count in meanings.items() if count >= _MIN_SHARED}
        self._common: Final = self._find_common(own)

    def write(self) -> str:
        """Return the page."""
        parts: list[str] = []
        shown: dict[int, _Section] = {}
        for section in self._sections:
            if self._is_inlined(section):
                continue
            if section.path:
                parts.append(f"## {section.title}\n")
            if (same := shown.setdefault(id(section.schema), section)) is not section:
                parts.append(f"As [{same.title}]({same.anchor}).\n")
                continue
            if _needs_restart(section.path):
                parts.append(f"{_RESTART}\n")
            lines = groupby(self._lines(section), key=lambda line: line.meaning)
            keys = ((meaning, ", ".join(line.key for line in alike)) for meaning, alike in lines)
            parts.append("\n".join([*(f"- {key}: {meaning}" for meaning, key in keys), ""]))
            if listed := ", ".join(self._list_shared(section)):
                parts.append(f"[Shared](#shared-keys): {listed}.\n")
        parts.append("## Shared keys\n")
        for meaning, alike in groupby(sorted(self._shared), key=lambda pair: pair[1]):
            parts.append(f"- {', '.join(self._show_common(key) for key, _ in alike)}: {meaning}")
        return "\n".join([*parts, ""])

    def _lines(self, section: _Section, before: str = "") -> Iterator[_Line]:
        """Yield the lines of a section and of the small ones below it, without shared keys; *before* is a prefix."""
        for key, node in section.schema["properties"].items():
            inner = _Section((*section.path, key), _resolve(node, self._schema))
            if self._is_section(node) and self._is_inlined(inner):
                yield from self._lines(inner, f"{before}{key}.")
            elif before or not self._is_shared(key, node):
                yield self._line(section, key, before)

    def _line(self, section: _Section, key: str, before: str) -> _Line:
        node = section.schema["properties"][key]
        path = (*section.path, key)
        text = _example(path, node, self._schema, self._examples.get(path))
        notes = [self._value(path, node) or ("" if text else _kind(node, self._schema))]
        if key in section.schema.get("required", ()):
            notes.insert(0, f"needed in {before.rstrip('.')}" if before else "**required**")
        example = f": {text}" if text else ""
        restart = _needs_restart(path) and not _needs_restart(section.path) and not self._is_section(node)
        meaning = " ".join([self._meaning(node), *_marks(path, restart=restart)])
        below = self._section_below(path)
        name = f"`{before}{key}{example}`" if below is None else f"[`{before}{key}`]({below.anchor})"
        value = ", ".join(filter(None, notes))
        return _Line(f"{name} ({value})" if value else name, meaning)

    def _section_below(self, path: Path) -> _Section | None:
        """Return the section of the value at *path*, or of its entries, if it has a heading."""
        return next(
            (
                section
                for section in self._sections
                if section.path in {path, (*path, "*")} and not self._is_inlined(section)
            ),
            None,
        )

    def _value(self, path: Path, node: Schema) -> str:
        """Show a value, but refer to a long one that was shown before."""
        value = _value(path, node, self._schema)
        first = self._long.setdefault(value, path) if len(value) > _MAX_REPEATED else path
        if first == path:
            return value
        section = next(section for section in self._sections if section.path == first[:-1])
        return f"as in [{section.title}]({section.anchor})"

    def _list_shared(self, section: _Section) -> Iterator[str]:
        """Yield the shared keys of a section, each with what is not the same in all sections."""
        for key, node in section.schema["properties"].items():
            if self._is_shared(key, node):
                own = [note for note in self._notes(section, key, node) if note not in self._common[key]]
                yield f"`{key}` ({', '.join(own)})" if own else f"`{key}`"

    def _show_common(self, key: str) -> str:
        """Show a shared key with what is the same in all sections."""
        notes = ", ".join(sorted(self._common[key], key=lambda note: (note[0] == "*", note[0] != "`")))
        return f"`{key}` ({notes})" if notes else f"`{key}`"

    def _find_common(self, sections: Sequence[_Section]) -> Mapping[str, frozenset[str]]:
        """Return for each shared key what is the same in all *sections* that have it."""
        common: dict[str, frozenset[str]] = {}
        for section in sections:
            for key, node in section.schema["properties"].items():
                if self._is_shared(key, node):
                    notes = frozenset(self._notes(section, key, node))
                    common[key] = common.get(key, notes) & notes
        return common

    def _notes(self, section: _Section, key: str, node: Schema) -> list[str]:
        """Return default, bounds and marks of a shared key."""
        path = (*section.path, key)
        marks = (mark.rstrip(".*") + "*" for mark in _marks(path, restart=False))
        return [*filter(None, _value(path, node, self._schema).split(", ")), *marks]

    def _is_shared(self, key: str, node: Schema) -> bool:
        return not self._is_section(node) and (key, self._meaning(node)) in self._shared

    def _is_section(self, node: Schema) -> bool:
        return "properties" in _resolve(node, self._schema)

    def _is_inlined(self, section: _Section) -> bool:
        """Return whether a section is shown in the list of the one above: a small one, with a fixed name."""
        nodes = section.schema["properties"].values()
        most = _MAX_INLINED if len(section.path) > 1 else _MAX_INLINED_AT_TOP
        small = len(nodes) <= most and all(not _has_sections(node, self._schema) for node in nodes)
        below = bool(section.path) and section.path[-1] != "*"
        return small and below and ".".join(section.path) not in ENVOY_DEPENDS_ON

    def _meaning(self, node: Schema) -> str:
        meaning: str = node.get("description") or _resolve(node, self._schema)["description"]
        return meaning


def _marks(path: Path, *, restart: bool) -> list[str]:
    envoy = ".".join(path) in ENVOY_DEPENDS_ON
    return [_RESTART] * restart + [_ENVOY] * envoy


def _value(path: Path, node: Schema, schema: Schema) -> str:
    """Show the default, or the choices if there is none, and the bounds of a key."""
    target = _resolve(node, schema)
    default = node.get("default")
    within = (str(target["minimum"]), str(target["maximum"])) if "minimum" in target else None
    bounds = BOUNDS.get(".".join(path), within)
    shown = ["-".join(bounds)] if bounds else []
    if default is not False and default not in (None, "", [], {}):
        others = (f"`{word}`" for word in target.get("enum", ()) if word != default)
        return ", ".join([_code(default), *others, *shown])
    return ", ".join([*(f"`{word}`" for word in target.get("enum", ())), *shown])


def _example(path: Path, node: Schema, schema: Schema, shown: object) -> str:
    """Return an example of a value without default, bounds and choices that is neither a section nor text."""
    target = _resolve(node, schema)
    is_text = target.get("type") == "string"
    has_value = node.get("default") not in (None, "", [], {}) or ".".join(path) in BOUNDS or "enum" in target
    example = node["examples"][0] if "examples" in node else shown
    return "" if has_value or is_text or example in (None, "") or _has_sections(node, schema) else _flow(example)


def _has_sections(node: Schema, schema: Schema) -> bool:
    """Return whether a value is a section, or has sections as its entries."""
    target = _resolve(node, schema)
    entries = (target.get("items"), target.get("additionalProperties"))
    return "properties" in target or any(isinstance(entry, dict) and _has_sections(entry, schema) for entry in entries)


def _kind(node: Schema, schema: Schema) -> str:
    """Return the type of a value, if it is not evident: a number."""
    written = _resolve(node, schema).get("type", ())
    kinds = (written,) if isinstance(written, str) else written
    return ", ".join(name for name in kinds if name not in _EVIDENT)


def _resolve(node: Schema, schema: Schema) -> Schema:
    if "$ref" not in node:
        return node
    definition: Schema = schema["definitions"][node["$ref"].rpartition("/")[2]]
    return definition


def _needs_restart(path: Path) -> bool:
    """Return whether a change of *path*, or of a section above, takes effect at the next start only."""
    return not {".".join(path[:length]) for length in range(1, len(path) + 1)}.isdisjoint(RESTART_REQUIRED)


def _find_examples(sample: str) -> dict[Path, object]:
    """Find a value for each key: the first one in *sample* or one of its variants that is not empty or False."""
    examples: dict[Path, object] = {}
    for text in (sample, *_variants(sample)):
        try:
            data = parse_document(text, file="sample").data
        except ConfigError:
            continue  # a comment that is prose
        for path, value in _walk(data, ()):
            if not examples.get(path):
                examples[path] = value
    return examples


def _variants(sample: str) -> Iterator[str]:
    """Yield *sample* with each of its commented lines and blocks put in place, one at a time."""
    for line in _COMMENTED_LINE.finditer(sample):
        yield sample[: line.start()] + line["indent"] + line["entry"] + sample[line.end() :]
    for block in _COMMENTED_BLOCK.finditer(sample):
        text = re.sub("^# ?", "", block[0], flags=re.MULTILINE)
        yield sample[: block.start()] + text + sample[block.end() :]


def _walk(data: object, path: Path) -> Iterator[tuple[Path, object]]:
    """Yield path and value of everything in *data*; freely chosen names and list indices are `*`."""
    if isinstance(data, dict):
        children = [("*" if path in _NAMED else key, child) for key, child in data.items()]
    else:
        children = [("*", child) for child in data] if isinstance(data, list) else []
    for step, child in children:
        yield (*path, step), child
        yield from _walk(child, (*path, step))


def _name(path: Path, index: int) -> str:
    if path[index] != "*":
        return path[index]
    return "NAME" if path[:index] in _NAMED else "[]"


def _code(value: object) -> str:
    return f"`{_flow(value)}`"


def _flow(value: object) -> str:
    """Write a value on one line, in YAML flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    return yaml.safe_dump(value, width=1000, default_flow_style=True).removesuffix("...\n").strip()
