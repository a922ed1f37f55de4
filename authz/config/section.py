"""What all parts of the configuration model have in common: strict, closed and frozen, with plain scalar types."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, TypeVar

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


class Section(BaseModel):
    """A mapping with a closed set of keys. The docstring of each key describes it in the schema and the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
