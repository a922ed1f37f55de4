"""Policy decision points (PDPs): where each is, how it is asked, and what a rule asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Final

from authz.config.address import is_on_this_host
from authz.config.declaring import Field, model_validator
from authz.config.outbound import (
    BasicCredentialsFile,
    BearerTokenFile,
    CaFile,
    ClientCertFile,
    ClientKeyFile,
    MaxBytes,
    MaxCached,
    MaxConcurrent,
    MaxPerSecond,
    MaxWait,
    Timeout,
)
from authz.config.section import Access, Choice, Duration, Section, Setting
from authz.core.conditions import ConditionError, NotInstalledError, compile_expression
from authz.core.pdp import Action, Entity, IdEncoding, PdpKind, references_of
from authz.core.template import (
    Expression,
    Reference,
    Template,
    TemplateError,
    Text,
    parse_template,
    parse_text,
)

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

CREDENTIALS: Final = ("bearer_token_file", "basic_credentials_file", "client_cert_file")


class InsecurePdp(Section):
    """Options that weaken the decisions of one PDP."""

    http: Annotated[
        bool, Setting(Access.LOOSENED, risk="anyone who controls the network to this PDP controls its decisions")
    ] = False
    """Plain HTTP beyond this host."""
    allow_on_error: Annotated[
        bool, Setting(Access.LOOSENED, risk="while this PDP does not answer, requests are allowed without its decision")
    ] = False
    """If unreachable (also 502 to 504) or slow, allow, and report would_deny."""


class Pdp(Section):
    """A policy decision point."""

    kind: Annotated[Choice[PdpKind], Setting(Access.UNKNOWN)] = PdpKind.AUTHZEN
    """AuthZEN Authorization API 1.0, or OPA's data API."""
    url: Annotated[str, Setting(Access.UNKNOWN)]
    """Access evaluation endpoint, or rule in OPA."""
    bearer_token_file: BearerTokenFile = None
    basic_credentials_file: BasicCredentialsFile = None
    client_cert_file: ClientCertFile = None
    client_key_file: ClientKeyFile = None
    ca_file: CaFile = None
    id_encoding: Annotated[Choice[IdEncoding], Setting(Access.UNKNOWN)] = IdEncoding.NONE
    """Encoding of values in ids."""
    expose_reason_user: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Send context.reason_user to denied clients."""
    timeout: Timeout = timedelta(seconds=1)
    max_wait: MaxWait = timedelta(seconds=1)
    cache: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("0s", "1h"), meaning="a decision that has changed stays in use so long")
    ] = timedelta(0)
    """How long an answer serves."""
    max_cached: MaxCached = 10_000
    max_bytes: MaxBytes = 64 * 1024
    max_concurrent: MaxConcurrent = 32
    max_per_second: MaxPerSecond = 5000
    insecure: InsecurePdp = InsecurePdp()
    """Options that weaken the decisions of one PDP."""

    @property
    def allows_http(self) -> bool:
        """Whether the URL may be a plain one."""
        return self.insecure.http or is_on_this_host(self.url)


_Values = Mapping[str, object]


class _Templates(Section):
    """A section of templates."""

    def text(self, key: str) -> Text | Reference:
        """Return the template of the text at *key*. Raises ValueError."""
        return parse_text(getattr(self, key), _compile)

    def values(self, key: str) -> Template:
        """Return the template of the values at *key*, or None. Raises ValueError."""
        template = getattr(self, key)
        return None if template is None else parse_template(template, _compile)


class PdpSubject(_Templates):
    """Who asks for access."""

    type: str = "user"
    """Type."""
    id: str = "${claims.sub}"
    """Id, unique for the type."""
    properties: Annotated[_Values | None, Field(examples=[{"roles": "${claims.realm_access.roles}"}])] = None
    """More; absent ones are omitted."""

    @cached_property
    def entity(self) -> Entity:
        """The parsed templates. Raises ValueError."""
        return Entity(self.text("type"), self.text("id"), self.values("properties"))


class PdpAction(_Templates):
    """What is to be done."""

    name: str = "${request.method}"
    """Name."""
    properties: Annotated[_Values | None, Field(examples=[{"soft": True}])] = None
    """More; absent ones are omitted."""

    @cached_property
    def action(self) -> Action:
        """The parsed templates. Raises ValueError."""
        return Action(self.text("name"), self.values("properties"))


class PdpResource(_Templates):
    """What is to be accessed."""

    type: str = "route"
    """Type."""
    id: str = "${request.path}"
    """Id, unique for the type."""
    properties: Annotated[_Values | None, Field(examples=[{"host": "${request.host}"}])] = None
    """More; absent ones are omitted."""

    @cached_property
    def entity(self) -> Entity:
        """The parsed templates. Raises ValueError."""
        return Entity(self.text("type"), self.text("id"), self.values("properties"))


class PdpQuestion(_Templates):
    """What a PDP must allow."""

    name: str
    """Its name."""
    subject: PdpSubject = PdpSubject()
    """Who asks for access."""
    action: PdpAction = PdpAction()
    """What is to be done."""
    resource: PdpResource = PdpResource()
    """What is to be accessed."""
    context: Annotated[_Values | None, Field(examples=[{"ip": "${source.address}"}])] = None
    """Circumstances."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: object) -> object:
        return {"name": data} if isinstance(data, str) else data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        definition = handler.resolve_ref_schema(handler(schema))
        definition["type"] = ["string", "object"]
        return definition

    @cached_property
    def context_template(self) -> Template:
        """The parsed template of the context, or None. Raises ValueError."""
        return self.values("context")

    def references(self) -> Iterator[Reference]:
        """Yield each reference of a valid question."""
        return references_of(self.subject.entity, self.action.action, self.resource.entity, self.context_template)


def _compile(text: str) -> Expression:
    """Compile what is no plain reference. Raises TemplateError."""
    try:
        return compile_expression(text)
    except NotInstalledError as error:
        raise TemplateError(f"${{{text}}}: as it is no plain reference such as ${{claims.sub}}, it {error}") from None
    except ConditionError as error:
        raise TemplateError(f"${{{text}}}: {error}") from None
