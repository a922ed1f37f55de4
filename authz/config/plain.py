"""Sections without pydantic, for a process that reads a configuration that another process has checked.

`authz serve` lets a child process check its file (`authz.runtime.loading`). Here a section only holds values: pydantic,
with the rules for sixty sections, would take 12 MB of memory and a third of the time to start.

Rules of this file:
1. The choice is made before the first section is defined, and then holds for the whole process.
2. Nothing is checked. Keys that were not given have their defaults, which are attributes of the class.
3. What this file has of pydantic's names means the same, or nothing: the declarations of sections are read by both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Self, TypeVar, get_args, get_type_hints

T = TypeVar("T")

_DEFINED: Final = "authz.config.section"


class Form(Enum):
    """How sections are defined."""

    DESCRIBED = auto()  # with pydantic, and for the reference with the docstrings of keys, from the source
    CHECKED = auto()  # with pydantic alone: to parse the source for docstrings takes a fifth of a check's time
    PLAIN = auto()  # without pydantic


@dataclass(slots=True)
class _Choice:
    form: Form = Form.DESCRIBED


_CHOICE: Final = _Choice()


def choose(form: Form) -> None:
    """Define all sections in this *form*; those that are described already are checked too.

    Raises RuntimeError if there are sections in another form already.
    """
    if _DEFINED not in sys.modules:
        _CHOICE.form = form
    elif form is not _CHOICE.form and (form, _CHOICE.form) != (Form.CHECKED, Form.DESCRIBED):
        raise RuntimeError("sections are defined already")


def chosen() -> Form:
    """Return how sections are defined."""
    return _CHOICE.form


class BaseModel:
    """A frozen value with the attributes that were given, and the defaults of its class."""

    _fields: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        own = (
            name for name, kind in vars(cls).get("__annotations__", {}).items() if not _is_class_attribute(name, kind)
        )
        cls._fields = tuple(dict.fromkeys((*cls._fields, *own)))

    def __init__(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def model_construct(cls, _given: set[str], **values: object) -> Self:
        """Return the section with these values."""
        return cls(**values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} is frozen")

    @property
    def model_fields_set(self) -> set[str]:
        """The keys that were given."""
        return set(self._fields).intersection(vars(self))

    def model_copy(self, *, update: Mapping[str, object]) -> Self:
        """Return the same section with other values of some keys; what it has computed is copied too."""
        return type(self)(**{**vars(self), **update})

    def model_dump(
        self, *, mode: str = "python", exclude: Collection[str] = (), exclude_none: bool = False
    ) -> dict[str, object]:
        """Return the section as a dict; in *mode* json with the values as the file has them."""
        formats = _formats_of(type(self)) if mode == "json" else {}
        fields = ((name, getattr(self, name)) for name in self._fields if name not in exclude)
        return {
            name: formats[name](value) if name in formats and value is not None else _dump(value, mode, exclude_none)
            for name, value in fields
            if not (exclude_none and value is None)
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BaseModel) or type(self) is not type(other):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        values = zip(self._fields, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values)})"

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._fields)


def _is_class_attribute(name: str, annotation: object) -> bool:
    return name.startswith("_") or str(annotation).startswith("ClassVar")


def _dump(value: object, mode: str, exclude_none: bool) -> object:  # noqa: FBT001 - as its caller was called
    if isinstance(value, BaseModel):
        return value.model_dump(mode=mode, exclude_none=exclude_none)
    if isinstance(value, Mapping):
        return {key: _dump(inner, mode, exclude_none) for key, inner in value.items()}
    if isinstance(value, tuple):
        items = [_dump(item, mode, exclude_none) for item in value]
        return items if mode == "json" else tuple(items)
    return value.value if isinstance(value, Enum) and mode == "json" else value


def _formats_of(section: type[BaseModel]) -> dict[str, Callable[[Any], object]]:
    """Return how durations and sizes are written, by key. Only what the console shows needs it."""
    hints = get_type_hints(section, include_extras=True)
    formats = ((name, next(_serializers(hints[name]), None)) for name in section._fields)
    return {name: serializer.format for name, serializer in formats if serializer is not None}


def _serializers(annotation: object) -> Iterator[PlainSerializer]:
    yield from (
        metadata for metadata in getattr(annotation, "__metadata__", ()) if isinstance(metadata, PlainSerializer)
    )
    for inner in get_args(annotation):
        yield from _serializers(inner)


@dataclass(frozen=True, slots=True)
class PlainSerializer:
    """How a value is written."""

    format: Callable[[Any], object]


def ConfigDict(**_options: object) -> dict[str, object]:  # noqa: N802 - pydantic's name
    """Return nothing: no option matters here."""
    return {}


def Field(**_options: object) -> None:  # noqa: N802 - pydantic's name
    """Return nothing: no property of a field matters here."""


def PlainValidator(_function: Callable[[Any], object]) -> None:  # noqa: N802 - pydantic's name
    """Return nothing: no value is checked here."""


def Strict(*, strict: bool) -> None:  # noqa: N802 - pydantic's name
    """Return nothing: no value is checked here."""


def WithJsonSchema(_schema: object) -> None:  # noqa: N802 - pydantic's name
    """Return nothing: no schema is written here."""


def model_validator(*, mode: str) -> Callable[[T], T]:  # noqa: ARG001 - pydantic's name
    """Return a decorator that changes nothing: the method is not called here."""
    return _unchanged_method


def field_validator(*_fields: str, mode: str) -> Callable[[T], T]:  # noqa: ARG001 - as above
    """Return a decorator that changes nothing."""
    return _unchanged_method


def _unchanged_method(method: T) -> T:
    return method
