"""Write plain data as readable YAML: short values on one line, and a comment above each key that has one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Final

import yaml

_FLOW_CHARS: Final = 76  # of a mapping or list on one line
_COMMENT_CHARS: Final = 118

Keys = tuple[str, ...]


def write_yaml(data: Mapping[str, object], comments: Mapping[str, str]) -> str:
    """Write *data*; the keys of *comments* are suffixes of the path to a key, such as `grpc_service.timeout`."""
    writer = _Writer({tuple(path.split(".")): text for path, text in comments.items()})
    return "".join(f"{line}\n" for line in writer.block(data, (), 0))


def comment(text: str, *, indent: int = 0) -> list[str]:
    """Wrap *text* into lines of a comment."""
    return textwrap.wrap(text, _COMMENT_CHARS - indent, initial_indent="# ", subsequent_indent="# ")


class _Writer:
    def __init__(self, comments: Mapping[Keys, str]) -> None:
        self._comments = comments

    def block(self, value: object, path: Keys, indent: int) -> Iterator[str]:
        """Write a mapping or list in lines that will be indented by *indent* columns."""
        if isinstance(value, Mapping):
            for key, child in value.items():
                yield from comment(self._comment_of((*path, key)), indent=indent)
                yield from self._entry(f"{_flow(key)}:", child, (*path, key), indent)
        elif isinstance(value, list):
            for item in value:
                first, *others = [_flow(item)] if self._is_short(item, path) else self.block(item, path, indent + 2)
                yield f"- {first}"
                yield from (f"  {line}" for line in others)

    def _entry(self, name: str, value: object, path: Keys, indent: int) -> Iterator[str]:
        if self._is_short(value, path):
            yield f"{name} {_flow(value)}"
            return
        yield name
        yield from (f"  {line}" for line in self.block(value, path, indent + 2))

    def _is_short(self, value: object, path: Keys) -> bool:
        if not isinstance(value, Mapping | list):
            return True
        return len(_flow(value)) <= _FLOW_CHARS and not self._has_comments(value, path)

    def _has_comments(self, value: object, path: Keys) -> bool:
        if isinstance(value, Mapping):
            return any(
                self._comment_of((*path, key)) or self._has_comments(child, (*path, key))
                for key, child in value.items()
            )
        return isinstance(value, list) and any(self._has_comments(item, path) for item in value)

    def _comment_of(self, path: Keys) -> str:
        """Return the comment of the longest suffix of *path* that has one."""
        ends = (path[start:] for start in range(len(path)))
        return next((self._comments[end] for end in ends if end in self._comments), "")


def _flow(value: object) -> str:
    text = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=2**31, allow_unicode=True)
    return text.strip()[1:-1]
