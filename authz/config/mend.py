"""Makes a broken configuration whole, so that its sound parts can be checked in the same run.

What comes out is looked at by checks and thrown away; it never judges a request.
"""

from __future__ import annotations

from copy import deepcopy
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


def mend(data: object, error: ValidationError) -> tuple[Config | None, frozenset[KeyPath]]:
    """Return a configuration of what is sound in *data*, or None, and the places that hold something else than *data*.

    Misspelt keys are read as they were meant. A wrong value takes its whole issuer, rule or setting with it: a check
    that saw half of one would find what is not there. Stand-ins keep the names and places of the others.
    """
    mended = deepcopy(data)
    replaced: set[KeyPath] = set()
    for _ in range(_MAX_ROUNDS):
        details = error.errors(include_url=False)
        misspelt = misspelt_keys(details)
        for path, meant in misspelt.items():
            _rename(mended, path, meant)
        for path in (detail["loc"] for detail in details):
            if path in misspelt or path in misspelt.values():
                continue
            replaced.add(path[:2])
            _replace(mended, path[:2])
        try:
            return Config.model_validate(mended), frozenset(replaced)
        except ValidationError as remaining:
            error = remaining
    return None, frozenset(replaced)


def _rename(data: Any, path: KeyPath, meant: KeyPath) -> None:  # noqa: ANN401 - plain data, of the shape that *path* has
    for step in path[:-1]:
        data = data[step]
    value = data.pop(path[-1])
    for step in meant[len(path) - 1 : -1]:
        data = data.setdefault(step, {})
    if meant and isinstance(data, dict):
        data.setdefault(meant[-1], value)


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
