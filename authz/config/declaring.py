"""What sections are declared with: pydantic, which checks values, or `authz.config.plain`, which only holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.config import plain

if TYPE_CHECKING or plain.chosen() is not plain.Form.PLAIN:
    from pydantic import (
        BaseModel,
        ConfigDict,
        Field,
        PlainSerializer,
        PlainValidator,
        Strict,
        WithJsonSchema,
        field_validator,
        model_validator,
    )
else:
    from authz.config.plain import (
        BaseModel,
        ConfigDict,
        Field,
        PlainSerializer,
        PlainValidator,
        Strict,
        WithJsonSchema,
        field_validator,
        model_validator,
    )

__all__ = [
    "BaseModel",
    "ConfigDict",
    "Field",
    "PlainSerializer",
    "PlainValidator",
    "Strict",
    "WithJsonSchema",
    "field_validator",
    "model_validator",
]
