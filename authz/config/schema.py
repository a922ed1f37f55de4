"""The JSON Schema of the configuration file, for editors and for charts.

It keeps to the part of draft-07 that Helm 3 and Helm 4 both know. It cannot say all that `authz check-config` checks.
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
    """Writes draft-07, with defaults as they would stand in the file."""

    schema_dialect = DRAFT

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        generated = super().generate(schema, mode)
        definitions = generated.pop("$defs")
        return {"$schema": DRAFT, **generated, "definitions": definitions}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """A key is there with a value, or it is not there: null is no value."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Show a default as it would stand in the file; those of a section stand at its own keys."""
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        if default is None or isinstance(default, BaseModel):
            return inner
        write = schema["schema"].get("serialization", {}).get("function")  # durations and sizes carry a unit
        return {**inner, "default": write(default) if write else to_jsonable_python(default, exclude_none=True)}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - the name of a key is its title
        return False
