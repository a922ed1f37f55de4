"""The reference of the configuration file in Markdown, generated from the model.

The example for a key without a default is from a sample file: its value there, or in a comment with an alternative.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from authz.config.checks.bounds import BOUNDS
from authz.config.document import parse_document
from authz.config.model import RESTART_REQUIRED, SETTINGS
from authz.config.problems import ConfigError
from authz.config.schema import json_schema

Schema = Mapping[str, Any]

_TYPES: Final = {"string": "text", "boolean": "boolean", "integer": "integer", "number": "number"}
_COMMENTED_LINE: Final = re.compile(r"^(?P<indent> +)# (?P<entry>(?:- )?[a-z_-]+: .*)$", re.MULTILINE)
_COMMENTED_BLOCK: Final = re.compile(r"^# [a-z]+:.*\n(?:#   .*\n?)+", re.MULTILINE)
_NEXT_START: Final = "Takes effect at the next start."
_ENVOY_TOO: Final = "*Envoy too.*"
_HEAD: Final = "| key | value | meaning |\n|---|---|---|"
_NAMED: Final = frozenset({("issuers",), ("identity", "headers"), ("signing", "keys")})

ENVOY_DEPENDS_ON: Final = frozenset(path for path, setting in SETTINGS.items() if setting.envoy)
"""The settings that Envoy's configuration depends on: after a change, run `authz envoy-config` again."""


@dataclass(frozen=True, slots=True)
class _Section:
    """A mapping with named keys; *path* has a `*` for each freely chosen name and each list item."""

    path: tuple[str, ...]
    schema: Schema

    @property
    def title(self) -> str:
        """The path with NAME and [] instead of `*`."""
        return ".".join(_name(self.path, place) for place in range(len(self.path))).replace(".[]", "[]")


def write_reference(sample: str) -> str:
    """Return the reference as Markdown, with examples from *sample*, a configuration file with commented variants."""
    schema = json_schema()
    examples = _find_examples(sample)
    parts = []
    for section in _sections(_Section((), schema), schema):
        if section.path:
            parts.append(f"## {section.title}\n")
            about = _describe(section, schema)
            parts += [f"{about}\n"] if about else []
        rows = [_row(section, key, schema, examples) for key in section.schema["properties"]]
        parts.append("\n".join([_HEAD, *rows, ""]))
    return "\n".join(parts)


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


def _describe(section: _Section, schema: Schema) -> str:
    """Describe a section, unless the row of its key has the same text."""
    *above, key = section.path
    parents = (each for each in _sections(_Section((), schema), schema) if each.path == tuple(above))
    rows = (node for each in parents for name, node in each.schema["properties"].items() if name == key)
    description: str = section.schema["description"]
    about = "" if description in {_meaning(node, schema) for node in rows} else description
    return f"{about}{_restart(section.path, ' ')}".strip()


def _row(section: _Section, key: str, schema: Schema, examples: Mapping[tuple[str, ...], object]) -> str:
    node = section.schema["properties"][key]
    path = (*section.path, key)
    what = _meaning(node, schema)
    value = _value(path, node, schema, examples.get(path))
    if key in section.schema.get("required", ()):
        value = f"**required**, {value}"
    restart = "" if _restart(section.path) or "](#" in value else _restart(path, " ")
    envoy = f" {_ENVOY_TOO}" if ".".join(path) in ENVOY_DEPENDS_ON else ""
    return f"| {' | '.join(_cell(text) for text in (f'`{key}`', value, what + restart + envoy))} |"


def _meaning(node: Schema, schema: Schema) -> str:
    meaning: str = node.get("description") or _resolve(node, schema)["description"]
    return meaning


def _value(path: tuple[str, ...], node: Schema, schema: Schema, shown: object) -> str:
    """Show the default, the other choices and the bounds of a key; without a default an example, or the type."""
    target = _resolve(node, schema)
    kind = _kind(path, node, schema)
    default = node.get("default")
    example = node["examples"][0] if "examples" in node else shown
    if default not in (None, "", [], {}):
        others = [f"`{word}`" for word in target.get("enum", ()) if word != default]
        value = f"{_code(default)}, or {', '.join(others)}" if others else _code(default)
    elif "](#" in kind or not _code(example):
        return kind
    else:
        value = f"e.g. {_code(example)}"
    within = (str(target["minimum"]), str(target["maximum"])) if "minimum" in target else None
    if bounds := BOUNDS.get(".".join(path), within):
        value += f", {bounds[0]} to {bounds[1]}"
    return f"{kind}; {value}" if "](#" in kind else value


def _kind(path: tuple[str, ...], node: Schema, schema: Schema) -> str:
    """Describe the type of the value at *path*; sections are links."""
    target = _resolve(node, schema)
    if "properties" in target:
        link = f"[keys](#{_anchor(_Section(path, target).title)})"
        return f"texts, or {link}" if "string" in target["type"] else link
    if "enum" in target:
        return " · ".join(f"`{word}`" for word in target["enum"])
    if "items" in target:
        return f"list of {_kind((*path, '*'), target['items'], schema)}"
    if target.get("type") == "object":
        below = target.get("additionalProperties")
        return f"names of {_kind((*path, '*'), below, schema)}" if isinstance(below, dict) else "mapping"
    if isinstance(target["type"], list):
        return ", ".join(_TYPES[name] for name in target["type"])
    if "const" in target:
        return f"`{target['const']}`"
    return _TYPES[target["type"]]


def _resolve(node: Schema, schema: Schema) -> Schema:
    if "$ref" not in node:
        return node
    definition: Schema = schema["definitions"][node["$ref"].rpartition("/")[2]]
    return definition


def _restart(path: tuple[str, ...], before: str = "") -> str:
    """Return a sentence if a change of *path*, or of a section above, takes effect at the next start only."""
    above = {".".join(path[:length]) for length in range(1, len(path) + 1)}
    return before + _NEXT_START if above & set(RESTART_REQUIRED) else ""


def _find_examples(sample: str) -> dict[tuple[str, ...], object]:
    """Find a value for each key: the first one in *sample* or one of its variants that is not empty or False."""
    found: dict[tuple[str, ...], object] = {}
    for text in (sample, *_variants(sample)):
        try:
            data = parse_document(text, file="sample").data
        except ConfigError:
            continue  # a comment that is prose
        for path, value in _walk(data, ()):
            if not found.get(path):
                found[path] = value
    return found


def _variants(sample: str) -> Iterator[str]:
    """Yield *sample* with each of its commented lines and blocks put in place, one at a time."""
    for line in _COMMENTED_LINE.finditer(sample):
        yield sample[: line.start()] + line["indent"] + line["entry"] + sample[line.end() :]
    for block in _COMMENTED_BLOCK.finditer(sample):
        text = re.sub("^# ?", "", block[0], flags=re.MULTILINE)
        yield sample[: block.start()] + text + sample[block.end() :]


def _walk(data: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield path and value of everything in *data*; freely chosen names and list indices are `*`."""
    if isinstance(data, dict):
        children = [("*" if path in _NAMED else key, child) for key, child in data.items()]
    else:
        children = [("*", child) for child in data] if isinstance(data, list) else []
    for step, child in children:
        yield (*path, step), child
        yield from _walk(child, (*path, step))


def _name(path: tuple[str, ...], place: int) -> str:
    if path[place] != "*":
        return path[place]
    return "NAME" if path[:place] in _NAMED else "[]"


def _anchor(title: str) -> str:
    """The anchor that Markdown gives to a title."""
    return re.sub(r"[^a-z0-9_-]", "", title.lower())


def _code(value: object) -> str:
    return "" if value in (None, "") else f"`{_flow(value)}`"


def _flow(value: object) -> str:
    """Write a value on one line, in YAML flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    return yaml.safe_dump(value, width=1000, default_flow_style=True).removesuffix("...\n").strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
