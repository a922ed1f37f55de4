"""What all parts of the configuration model have in common: strict, closed and frozen, with plain scalar types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Annotated, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, Strict, WithJsonSchema

from authz.config.quantity import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

T = TypeVar("T")

Items = Annotated[tuple[T, ...], Strict(strict=False)]
"""A YAML list, kept as a tuple: not strict only in that it takes a list for one; its items are as strict as ever."""

Word = Annotated[T, Strict(strict=False)]
"""One word of a closed vocabulary (a StrEnum). Not strict only in that it takes the word's text."""

Duration = Annotated[
    timedelta,
    PlainValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
Size = Annotated[
    int,
    PlainValidator(parse_size),
    PlainSerializer(format_size),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN}),
]


class Access(Enum):
    """How a change of a key affects which requests are allowed."""

    UNAFFECTED = auto()  # the same ones, although something else may change
    UNKNOWN = auto()  # not decidable from the file, such as keys from elsewhere
    LISTED = auto()  # each value of the list allows more
    REQUIRED = auto()  # each value of the list allows less
    LIMIT = auto()  # an upper bound of what is allowed; without a value there is no bound
    LOOSENED = auto()  # more are allowed while it is set, or has the value `loose`
    KEYS = auto()  # each signing key allows more
    TYPES = auto()  # each token type allows more
    HEADERS = auto()  # a header that is no longer listed reaches the upstream as the client sent it
    DOCUMENT = auto()  # the sidecar itself answers every request for it


@dataclass(frozen=True, slots=True)
class Setting:
    """The properties of a key other than its type, as metadata of its field.

    *access* is how a change of it affects requests; rules have none, because they are compared as a whole. *loose* is
    the insecure value, if not every value except None and false is. *bounds* are the minimum and the maximum, written
    as in the file. *risk* is a warning while it is set, *meaning* describes a change that does not narrow. *envoy* says
    that Envoy's configuration depends on it, *restart* that a change takes effect at the next start.
    """

    access: Access | None = None
    loose: str | None = None
    bounds: tuple[str, str] | None = None
    risk: str = ""
    meaning: str = ""
    envoy: bool = False
    restart: bool = False


class Section(BaseModel):
    """A mapping with a closed set of keys. The docstring of each key describes it in the schema and the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def section_in(annotation: object) -> type[Section] | None:
    """Return the section type in an annotation, also as an entry of a list or map, or as an option."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def has_entries(annotation: object) -> bool:
    """Return whether an annotation is of a list or map."""
    return get_origin(annotation) in {tuple, Mapping}


def settings_of(section: type[Section], above: str = "") -> Iterator[tuple[str, Setting]]:
    """Yield the path and the setting of each key of *section* and below; `*` is an entry of a list or map."""
    for name, field in section.model_fields.items():
        path = f"{above}{name}"
        yield from ((path, found) for found in field.metadata if isinstance(found, Setting))
        if (inner := section_in(field.annotation)) is not None:
            yield from settings_of(inner, f"{path}.*." if has_entries(field.annotation) else f"{path}.")
