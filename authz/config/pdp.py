"""Policy decision points (PDPs): where each is, how it is asked, and what a rule asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Final

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from authz.config.address import is_on_this_host
from authz.config.section import Access, Duration, Section, Setting, Size, Word
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

CREDENTIALS: Final = ("bearer_token_file", "basic_credentials_file", "client_cert_file")


class InsecurePdp(Section):
    """Options that weaken the decisions of one PDP; each warns at start and shows in `authz_insecure_options`."""

    http: Annotated[
        bool, Setting(Access.LOOSENED, risk="anyone who controls the network to this PDP controls its decisions")
    ] = False
    """Plain HTTP beyond this host: anyone who controls the network controls the decisions."""
    allow_on_error: Annotated[
        bool, Setting(Access.LOOSENED, risk="while this PDP does not answer, requests are allowed without its decision")
    ] = False
    """Allow, and report would_deny, if it cannot be reached or is too slow; not if it answers with an error."""


class Pdp(Section):
    """One policy decision point (PDP); NAME is its label in rules, metrics and logs."""

    kind: Annotated[Word[PdpKind], Setting(Access.UNKNOWN)] = PdpKind.AUTHZEN
    """authzen: AuthZEN Authorization API 1.0. opa: the data API of OPA, where input has AuthZEN's members."""
    url: Annotated[str, Setting(Access.UNKNOWN)]
    """URL of the access evaluation endpoint, or of the rule in OPA: https://opa/v1/data/NAME/allow."""
    bearer_token_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with a bearer token; read each time."""
    basic_credentials_file: Annotated[
        str | None, Field(examples=["/etc/authz/pdp-credentials"]), Setting(Access.UNAFFECTED)
    ] = None
    """File with `user:password` (Basic); read each time."""
    client_cert_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of the client certificate and its chain (mutual TLS)."""
    client_key_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of its key, without a password."""
    ca_file: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """PEM file of the trusted authorities, in place of the system's."""
    id_encoding: Annotated[Word[IdEncoding], Setting(Access.UNKNOWN)] = IdEncoding.NONE
    """How values are encoded in ids of subjects and resources; OpenFGA refuses `:`, `#`, `@` and spaces."""
    expose_reason_user: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Send the PDP's context.reason_user to denied clients, as detail of the body (RFC 9457)."""
    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"))] = timedelta(seconds=1)
    """Bound of one whole exchange."""
    max_wait: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"), envoy=True)] = timedelta(seconds=1)
    """Longest time that a request waits for the decision."""
    cache: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("0s", "1h"), meaning="a decision that has changed stays in use so long")
    ] = timedelta(0)
    """How long a decision is used again for the same question; 0s: it never is."""
    max_cached: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "1000000"))] = 10_000
    """Largest number of cached decisions."""
    max_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "1MiB"))] = 64 * 1024
    """Largest answer that is read."""
    max_concurrent: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "256"))] = 32
    """Questions that are under way at one time, each on a thread and a connection."""
    max_per_second: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "100000"))] = 5000
    """Questions a second; so many may come at once."""
    insecure: InsecurePdp = InsecurePdp()
    """Options that weaken its decisions."""

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
        given = getattr(self, key)
        return None if given is None else parse_template(given, _compile)


class PdpSubject(_Templates):
    """Who asks for access."""

    type: str = "user"
    """Its type."""
    id: str = "${claims.sub}"
    """Its id, unique for the type."""
    properties: Annotated[_Values | None, Field(examples=[{"roles": "${claims.realm_access.roles}"}])] = None
    """More about it; what is absent is left out."""

    @cached_property
    def entity(self) -> Entity:
        """The parsed templates. Raises ValueError."""
        return Entity(self.text("type"), self.text("id"), self.values("properties"))


class PdpAction(_Templates):
    """What is to be done."""

    name: str = "${request.method}"
    """Its name."""
    properties: Annotated[_Values | None, Field(examples=[{"soft": True}])] = None
    """More about it; what is absent is left out."""

    @cached_property
    def action(self) -> Action:
        """The parsed templates. Raises ValueError."""
        return Action(self.text("name"), self.values("properties"))


class PdpResource(_Templates):
    """What is to be accessed."""

    type: str = "route"
    """Its type."""
    id: str = "${request.path}"
    """Its id, unique for the type."""
    properties: Annotated[_Values | None, Field(examples=[{"host": "${request.host}"}])] = None
    """More about it; what is absent is left out."""

    @cached_property
    def entity(self) -> Entity:
        """The parsed templates. Raises ValueError."""
        return Entity(self.text("type"), self.text("id"), self.values("properties"))


class PdpQuestion(_Templates):
    """What a PDP must allow. In texts, ${...} is a value: of claims, params, request, context, source, or CEL."""

    name: str
    """The PDP, one of pdps."""
    subject: PdpSubject = PdpSubject()
    """Who asks for access."""
    action: PdpAction = PdpAction()
    """What is to be done."""
    resource: PdpResource = PdpResource()
    """What is to be accessed."""
    context: Annotated[_Values | None, Field(examples=[{"ip": "${source.address}"}])] = None
    """The circumstances; what is absent is left out."""

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
