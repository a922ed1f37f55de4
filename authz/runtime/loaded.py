"""A checked configuration, and how one process passes it to another.

The file is checked in a child process (`authz.runtime.checking`): pydantic, YAML and the checks take more memory than
all the rest of a process that serves. What the child writes is a pickle. To unpickle executes what the pickle says; so:
1. Only a process that this one started, from its own code, has the other end of the socket; for a worker it is a
   memory file of its supervisor. Nothing is read from a path or from the network.
2. What the file says is data in the pickle: text, numbers, and our own frozen sections of them.
3. `_Unpickler` finds nothing but what is defined in the modules of a configuration, and `_OTHERS`, in case 1 or 2
   should ever fail: other modules of ours start processes, write files, or have imported what does.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, EnumType
from itertools import islice
from traceback import format_exception
from typing import Any, Final

from authz.config.model import Config
from authz.config.problems import ConfigError, Problem
from authz.config.rules import Rule

MAX_BYTES: Final = 128 * 1024 * 1024  # of a pickled configuration; the largest file is 4 MiB

_RULES_AT_ONCE: Final = 16  # in one pickle: it takes less than 0.2 ms, in which no other thread runs
_LENGTH: Final = 4  # octets
_INCOMPLETE: Final = "what was passed is not complete"
_PACKAGES: Final = ("authz.config.", "authz.core.")
_MODULES: Final = frozenset({"authz.files.stamp", "authz.runtime.handover", "authz.runtime.loaded"})
_OTHERS: Final = frozenset({("datetime", "timedelta")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A valid configuration, and what follows from it.

    *insecure_options* is the number of options below `insecure` in use. *restart_required* are the settings whose
    changes take effect at the next start. *headers* are those that Envoy must allow the sidecar to write.
    """

    config: Config
    warnings: tuple[Problem, ...]
    insecure_options: int
    restart_required: tuple[str, ...]
    headers: frozenset[str]


class CheckFailedError(Exception):
    """Raised if it is not known whether a configuration is valid: the process that checks it failed.

    *traceback* is that of an error of ours.
    """

    def __init__(self, message: str, *, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback: Final = traceback


@dataclass(frozen=True, slots=True)
class _Valid:
    """A configuration without its rules, and how many follow."""

    loaded: Loaded
    rules: int


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of ours, of this *kind*, in the process that checks."""

    kind: str
    traceback: str


def pack(result: Loaded | Exception) -> bytes:
    """Pickle a checked configuration, or the error that it has, or an error of ours.

    The rules are separate pickles: see `unpack`.
    """
    if isinstance(result, ConfigError):
        return _framed(result)
    if isinstance(result, Exception):
        return _framed(_Failure(type(result).__name__, "".join(format_exception(result))))
    rules = iter(result.config.rules)
    result.config.digest  # noqa: B018 - computed here, with the rules, and kept by the copy
    loaded = replace(result, config=result.config.model_copy(update={"rules": ()}))
    first = _Valid(loaded, len(result.config.rules))
    return b"".join(map(_framed, (first, *iter(lambda: tuple(islice(rules, _RULES_AT_ONCE)), ()))))


def unpack(packed: bytes, *, pause: Callable[[], None] = lambda: None, rules: bool = True) -> Loaded:
    """Return what was packed, without its rules unless *rules* is true.

    *pause* is called often. Raises ConfigError if the configuration is invalid, CheckFailedError.
    """
    frames = _frames(packed)
    match next(frames, None):
        case _Valid() as valid:
            if rules:
                _add_rules(valid, frames, pause)
            return valid.loaded
        case ConfigError() as error:
            raise error
        case _Failure() as failure:
            raise CheckFailedError(f"an error of ours: {failure.kind}", traceback=failure.traceback)
        case _:
            raise CheckFailedError(_INCOMPLETE)


def _add_rules(to: _Valid, frames: Iterator[Any], pause: Callable[[], None]) -> None:
    rules: list[Rule] = []
    for frame_rules in frames:
        rules += frame_rules
        pause()
    if len(rules) != to.rules:
        raise CheckFailedError(_INCOMPLETE)
    object.__setattr__(to.loaded.config, "rules", tuple(rules))  # no other thread has the object yet


def unpickle(pickled: bytes | memoryview) -> Any:  # noqa: ANN401 - any of our own objects
    """Return an object that one of our own processes has pickled. Raises CheckFailedError if it is none."""
    try:
        return _Unpickler(io.BytesIO(pickled)).load()
    except Exception as error:  # pickle raises whatever it comes across
        raise CheckFailedError(f"what was passed cannot be read: {type(error).__name__}: {error}") from error


def _framed(value: object) -> bytes:
    pickled = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return len(pickled).to_bytes(_LENGTH, "big") + pickled


def _frames(packed: bytes) -> Iterator[Any]:
    view = memoryview(packed)
    while view:
        end = _LENGTH + int.from_bytes(view[:_LENGTH], "big")
        if len(view) < end:
            raise CheckFailedError(_INCOMPLETE)
        yield unpickle(view[_LENGTH:end])
        view = view[end:]


class _Unpickler(pickle.Unpickler):
    """Finds our own classes, and a few others."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as the library declares it
        if (module, name) == ("builtins", "getattr"):
            return _member
        is_ours = module.startswith(_PACKAGES) or module in _MODULES
        cls = super().find_class(module, name) if is_ours or (module, name) in _OTHERS else None
        if "." in name or getattr(cls, "__module__", None) != module:
            raise pickle.UnpicklingError(f"{module}.{name} is not expected")
        return cls


def _member(owner: object, name: object) -> Enum:
    """Return a member of one of our enumerations: Python 3.11.2, which Debian 12 has, pickles it as `getattr`."""
    if not isinstance(owner, EnumType) or not isinstance(name, str):
        raise pickle.UnpicklingError("builtins.getattr is not expected")
    member: Enum = owner[name]
    return member
