"""Complete an invalid configuration, so that its valid parts can be checked in the same run.

The result is only checked; it is never used for decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from authz.config.diagnostics.messages import misspelt_keys
from authz.config.model import Config
from authz.config.problems import KeyPath

_MAX_ROUNDS: Final = 3  # a corrected key may have an invalid value
_ISSUER: Final = {"issuer": "https://stand-in.invalid"}
_PDP: Final = {"url": "https://stand-in.invalid/access/v1/evaluation"}
_RULE: Final = {"allow": "deny"}
_REQUIRED: Final = {"version": 1, "issuers": {"stand-in": _ISSUER}, "rules": [_RULE]}
_ENTRIES: Final = {("issuers",): _ISSUER, ("pdps",): _PDP, ("rules",): _RULE}
_ENTRY: Final = 2  # keys that lead to one issuer, PDP or rule
# Values that are deeper than a key of an entry and depend on another key: a symmetric algorithm needs a file, and a
# condition the parameters of a path.
_DEPENDS_ON: Final[Mapping[KeyPath, str]] = {
    ("algorithms",): "jwks_file",
    ("require", "when"): "match",
    ("require", "pdp"): "match",
}


@dataclass(frozen=True, slots=True)
class Recovered:
    """A *config* of the valid parts of the data, or None if there are none.

    *replaced* are the paths whose value differs from the data. *partial* are issuers and rules with such a path:
    checks that need several of their keys are skipped. *moved* maps the paths of corrected keys to those in the file.
    """

    config: Config | None
    replaced: frozenset[KeyPath] = frozenset()
    partial: frozenset[KeyPath] = frozenset()
    moved: Mapping[KeyPath, KeyPath] = field(default_factory=dict)

    def is_checked(self, path: KeyPath) -> bool:
        """Return whether a problem at *path* is a problem of the file, and not of a replaced value.

        In a partial issuer or rule, only problems below its keys count, such as one of several algorithms: they do not
        depend on the other keys.
        """
        if any(path[:length] in self.replaced for length in range(len(path) + 1)):
            return False
        entry, within = path[:_ENTRY], path[_ENTRY:]
        if entry not in self.partial:
            return True
        needed = {(*entry, dependency) for part, dependency in _DEPENDS_ON.items() if within[: len(part)] == part}
        return len(within) > 1 and needed.isdisjoint(self.replaced)

    def path_in_file(self, path: KeyPath) -> KeyPath:
        """Return the path in the file of the value at *path*."""
        for length in range(1, len(path) + 1):
            if path[:length] in self.moved:
                return (*self.moved[path[:length]], *path[length:])
        return path


def recover(data: object, error: ValidationError) -> Recovered:
    """Correct the errors that *error* found in *data*.

    Misspelt keys are corrected. An invalid value removes its key of the issuer or rule, or its whole setting, because
    checks of a part would report false problems. Stand-ins keep the names and places of invalid entries.
    """
    recovered = deepcopy(data)
    replaced: set[KeyPath] = set()
    partial: set[KeyPath] = set()
    moved: dict[KeyPath, KeyPath] = {}
    for _ in range(_MAX_ROUNDS):
        details = error.errors(include_url=False)
        misspelt = misspelt_keys(details)
        moved |= dict(_move(recovered, misspelt))
        for path in (detail["loc"] for detail in details):
            if path not in misspelt and path not in misspelt.values():
                part = path[: _ENTRY + 1] if path[:1] in _ENTRIES else path[:_ENTRY]
                replaced.add(part)
                if len(part) > _ENTRY:
                    partial.add(part[:_ENTRY])
                _replace(recovered, part)
        try:
            return Recovered(Config.model_validate(recovered), frozenset(replaced), frozenset(partial), moved)
        except ValidationError as remaining:
            error = remaining
    return Recovered(None, frozenset(replaced), frozenset(partial), moved)


def _move(data: Any, misspelt: Mapping[KeyPath, KeyPath]) -> Iterator[tuple[KeyPath, KeyPath]]:  # noqa: ANN401 - plain data
    """Move the values of misspelt keys to their corrected paths; yield the new and the old path of each.

    A value is only removed if there is no correction, or if that path exists.
    """
    for path, correct in misspelt.items():
        node = data
        for step in path[:-1]:
            node = node[step]
        value = node.pop(path[-1])
        for step in correct[len(path) - 1 : -1]:
            node = node.setdefault(step, {})
        if correct and isinstance(node, dict) and correct[-1] not in node:
            node[correct[-1]] = value
            yield correct, path


def _replace(data: Any, path: KeyPath) -> None:  # noqa: ANN401 - plain data
    match path:
        case ("issuers" | "pdps" | "rules" as section, entry):
            data[section][entry] = dict(_ENTRIES[section,])
        case (section, entry, key):
            data[section][entry].pop(key, None)
            required = {"issuers": _ISSUER, "pdps": _PDP}.get(str(section), {})
            if key in required:
                data[section][entry][key] = required[str(key)]
        case (section, key):
            data[section].pop(key, None)
        case (section,):
            data.pop(section, None)
            if section in _REQUIRED:
                data[section] = _REQUIRED[section]
        case _:
            pass  # the whole file is not a mapping: nothing can be kept
