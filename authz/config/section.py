"""The base of all sections of the configuration model: strict, closed and frozen; and the metadata of settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from functools import cache
from sys import intern
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, get_args, get_origin

from authz.config.declaring import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    Strict,
    WithJsonSchema,
    model_validator,
)
from authz.config.plain import Form, chosen
from authz.config.quantity import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

T = TypeVar("T")

Items = Annotated[tuple[T, ...], Strict(strict=False)]
"""A YAML list as a tuple. Not strict, so that a list is accepted; its items are strict."""

Choice = Annotated[T, Strict(strict=False)]
"""A StrEnum. Not strict, so that a string is accepted."""

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

    UNAFFECTED = auto()  # none
    UNKNOWN = auto()  # not known from the file, for example other keys at a URL
    LISTED = auto()  # each value in the list allows more
    REQUIRED = auto()  # each value in the list allows less
    LIMIT = auto()  # an upper limit of what is allowed; no value means no limit
    LOOSENED = auto()  # allows more while it is set, or has the value `loose`
    KEYS = auto()  # each signing key allows more
    TYPES = auto()  # each token type allows more
    HEADER = auto()  # one header, with the same effect as HEADERS
    HEADERS = auto()  # a header that is no longer listed reaches the upstream as the client sent it
    DENYLISTS = auto()  # each entry of the map may allow less
    DOCUMENT = auto()  # a document that the sidecar serves to any client


@dataclass(frozen=True, slots=True)
class Setting:
    """The properties of a key other than its type, as metadata of its field.

    *access* is the effect of a change on requests; settings of rules have none, because rules are compared as a whole.
    *loose* is the insecure value, if only one value is insecure. *bounds* are minimum and maximum, as written in the
    file. *risk* is the warning while the setting is in use; *meaning* describes a change that may widen access. With
    *envoy*, Envoy's configuration depends on the setting; with *restart*, a change takes effect at the next start.
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

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=chosen() is Form.DESCRIBED
    )

    computed: ClassVar[tuple[str, ...]] = ()  # cached properties that another process cannot compute

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the values that were given, for `restore`: the other process has the defaults."""
        names = _in_order(type(self), frozenset(self.model_fields_set))
        computed = {name: getattr(self, name) for name in self.computed}
        return restore, (type(self), names, tuple(getattr(self, name) for name in names), computed)


@cache
def _in_order(section: type[Section], names: frozenset[str]) -> tuple[str, ...]:  # noqa: ARG001 - one tuple for each
    """Return *names*, always in the same order and as the same object, which a pickle then contains once."""
    return tuple(sorted(names))


def restore(
    section: type[Section], names: tuple[str, ...], values: tuple[Any, ...], computed: Mapping[str, object]
) -> Section:
    """Make a section from values that were valid in the process that pickled them."""
    restored = section.model_construct(set(names), **dict(zip(map(intern, names), values, strict=True)))
    if computed:
        vars(restored).update(computed)
    return restored


class OrClaim(Section):
    """A section in place of which a string may be written: its `claim`."""

    example: ClassVar[str]  # of a mapping, for the error

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: object) -> object:
        if isinstance(data, str):
            return {"claim": data}
        if not isinstance(data, dict | cls):
            raise ValueError(f"must be a claim path, or a mapping such as {cls.example}")  # noqa: TRY004 - pydantic collects these
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        definition = handler.resolve_ref_schema(handler(schema))
        definition["type"] = ["string", "object"]
        return definition


def section_in(annotation: object) -> type[Section] | None:
    """Return the section type in an annotation, also if it is in a list, a map or an optional value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def has_entries(annotation: object) -> bool:
    """Return whether an annotation is of a list or map."""
    return get_origin(annotation) in {tuple, Mapping}


def settings_of(section: type[Section], above: str = "") -> Iterator[tuple[str, Setting]]:
    """Yield the path and the setting of each key of *section* and below; `*` is an entry of a list or map.

    Below a key with an access there is none: the key is compared as a whole.
    """
    for name, field in section.model_fields.items():
        path = f"{above}{name}"
        own = [setting for setting in field.metadata if isinstance(setting, Setting)]
        yield from ((path, setting) for setting in own)
        if (inner := section_in(field.annotation)) is not None:
            below = settings_of(inner, f"{path}.*." if has_entries(field.annotation) else f"{path}.")
            for_whole_section = any(setting.access is not None for setting in own)
            yield from (
                (path_below, replace(setting, access=None) if for_whole_section else setting)
                for path_below, setting in below
            )
