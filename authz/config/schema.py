"""The JSON Schema of the configuration file, for editors and for charts.

It uses the subset of draft-07 that both Helm 3 and Helm 4 support. `authz check-config` checks more.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema, to_jsonable_python

from authz.config.model import Config

DRAFT: Final = "http://json-schema.org/draft-07/schema#"


def json_schema() -> dict[str, Any]:
    """Return the schema of the whole configuration file."""
    return Config.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Draft07)


class _Draft07(GenerateJsonSchema):
    """Generates draft-07, with defaults as they are written in the file."""

    schema_dialect = DRAFT

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        generated = super().generate(schema, mode)
        definitions = generated.pop("$defs")
        return {"$schema": DRAFT, **generated, "definitions": definitions}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Omit null: an optional key has a value or is absent."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Add a default as it is written in the file, but not for whole sections."""
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        if default is None or isinstance(default, BaseModel):
            return inner
        write = schema["schema"].get("serialization", {}).get("function")  # durations and sizes carry a unit
        return {**inner, "default": write(default) if write else to_jsonable_python(default, exclude_none=True)}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - the name of a key is its title
        return False
