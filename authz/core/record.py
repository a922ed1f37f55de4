"""Dataclasses for values that are created for every request.

A frozen dataclass sets each field with `object.__setattr__`; for the dozen values of one Check that costs as much as
parsing its token. These dataclasses are frozen for mypy only: assigning to a field is a type error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make *cls* a slotted dataclass that mypy treats as frozen."""
    return dataclass(slots=True)(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def kw_record(cls: type[T]) -> type[T]:
    """Like `record`, with keyword-only fields."""
    return dataclass(slots=True, kw_only=True)(cls)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def hashed_record(cls: type[T]) -> type[T]:
    """Like `record`, and hashable by the fields that are compared."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
