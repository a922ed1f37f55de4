"""Select the values of a configuration by a pattern of their paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from authz.config.problems import KeyPath
from authz.config.section import Section


def select(section: Section, pattern: str) -> Iterator[tuple[KeyPath, object]]:
    """Yield path and value of each match of *pattern*: keys between dots, `*` for every entry of a map or list."""
    selected: list[tuple[KeyPath, object]] = [((), section)]
    for step in pattern.split("."):
        selected = [((*path, key), value) for path, parent in selected for key, value in _children(parent, step)]
    yield from selected


def _children(parent: object, step: str) -> Iterator[tuple[str | int, object]]:
    if isinstance(parent, Section):
        yield step, getattr(parent, step)
    elif isinstance(parent, Mapping):
        yield from parent.items()
    elif isinstance(parent, tuple):
        yield from enumerate(parent)
