"""Dataclasses for values that are created for every request.

A frozen dataclass sets each field through `object.__setattr__`: for the dozen values of one Check that costs as much as
parsing its token. These dataclasses are frozen for mypy only: assigning to a field is a type error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make *cls* a slotted dataclass whose fields are never assigned to."""
    return dataclass(slots=True)(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def kw_record(cls: type[T]) -> type[T]:
    """Make *cls* a value whose fields are given by name only."""
    return dataclass(slots=True, kw_only=True)(cls)
