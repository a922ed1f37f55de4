"""Makes a broken configuration whole, so that its sound parts can be checked in the same run.

What comes out is looked at by checks and thrown away; it never judges a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from authz.config.model import Config
from authz.config.problems import KeyPath
from authz.config.translate import misspelt_keys

_MAX_ROUNDS: Final = 3  # a key that was put right may hold a wrong value in turn
_ISSUER: Final = {"issuer": "https://stand-in.invalid"}
_RULE: Final = {"allow": "nobody"}
_REQUIRED: Final = {"version": 1, "issuers": {"stand-in": _ISSUER}, "rules": [_RULE]}
_ENTRIES: Final = {"issuers": _ISSUER, "rules": _RULE}


@dataclass(frozen=True, slots=True)
class Mended:
    """A *config* of what is sound in the data, or None where nothing is.

    *replaced* are the places that hold something else than the data does. *moved* are the places of misspelt keys, each
    with the path that the file has for it.
    """

    config: Config | None
    replaced: frozenset[KeyPath] = frozenset()
    moved: Mapping[KeyPath, KeyPath] = field(default_factory=dict)

    def written(self, path: KeyPath) -> KeyPath:
        """Return where the value at *path* stands in the file."""
        for length in range(1, len(path) + 1):
            if path[:length] in self.moved:
                return (*self.moved[path[:length]], *path[length:])
        return path


def mend(data: object, error: ValidationError) -> Mended:
    """Put right what *error* found in *data*.

    Misspelt keys are read as they were meant. A wrong value takes its whole issuer, rule or setting with it: a check
    that saw half of one would find what is not there. Stand-ins keep the names and places of the others.
    """
    mended = deepcopy(data)
    replaced: set[KeyPath] = set()
    moved: dict[KeyPath, KeyPath] = {}
    for _ in range(_MAX_ROUNDS):
        details = error.errors(include_url=False)
        misspelt = misspelt_keys(details)
        moved |= dict(_move(mended, misspelt))
        for path in (detail["loc"] for detail in details):
            if path not in misspelt and path not in misspelt.values():
                replaced.add(path[:2])
                _replace(mended, path[:2])
        try:
            return Mended(Config.model_validate(mended), frozenset(replaced), moved)
        except ValidationError as remaining:
            error = remaining
    return Mended(None, frozenset(replaced), moved)


def _move(data: Any, misspelt: Mapping[KeyPath, KeyPath]) -> Iterator[tuple[KeyPath, KeyPath]]:  # noqa: ANN401 - plain data
    """Move the values of misspelt keys to where they were meant to be; yield the new and the old path of each.

    A value is only taken out where nobody knows what was meant, or where something stands there already.
    """
    for path, meant in misspelt.items():
        place = data
        for step in path[:-1]:
            place = place[step]
        value = place.pop(path[-1])
        for step in meant[len(path) - 1 : -1]:
            place = place.setdefault(step, {})
        if meant and isinstance(place, dict) and meant[-1] not in place:
            place[meant[-1]] = value
            yield meant, path


def _replace(data: Any, place: KeyPath) -> None:  # noqa: ANN401 - the same
    match place:
        case ("issuers" | "rules" as section, entry):
            data[section][entry] = _ENTRIES[section]
        case (section, key):
            data[section].pop(key, None)
        case (section,):
            data.pop(section, None)
            if section in _REQUIRED:
                data[section] = _REQUIRED[section]
        case _:
            pass  # the file as a whole is no mapping: nothing can be kept
