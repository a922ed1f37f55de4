"""External decisions: the question to a policy decision point (PDP), its response, and what follows from it.

A PDP is asked by the AuthZEN Authorization API 1.0 (access evaluation, section 6) or by OPA's data API.

Rules of this file:
1. A question has the members subject, action, resource and, if configured, context, and no others: some servers refuse
   members that they do not know. A question whose subject, action or resource lacks its id or name is not sent.
2. Only a literal true allows and only a literal false denies. Anything else is no decision, and denies with 503.
3. With *allow_on_error* a request passes only if the PDP does not respond at all. An error in response to the question,
   or a limit of ours, denies nevertheless: a client can cause it.
4. A need contains a digest of all that is sent, to whom and how, so that a response is never used for another question.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from authz.core.claims import ClaimPath
from authz.core.decision import AuditTrail
from authz.core.needs import Facts, Need, Unanswered
from authz.core.reasons import Reason, Rejected
from authz.core.template import (
    NoValueError,
    Reference,
    Template,
    Text,
    Variables,
    references,
    render,
    render_text,
    write_json,
)

PDP: Final = "pdp"  # the kind of a need for an external decision
MAX_QUESTION_BYTES: Final = 65_536
MAX_REASON_CHARS: Final = 500  # of a text of the PDP, for the user or for the operator
MAX_ACR_VALUES: Final = 16
_MAX_ACR_CHARS: Final = 256
_MAX_AGE: Final = 10 * 365 * 24 * 3600  # seconds


class PdpKind(StrEnum):
    """The protocol of a PDP: AuthZEN, or OPA's data API."""

    AUTHZEN = "authzen"
    OPA = "opa"


class IdEncoding(StrEnum):
    """How values are encoded in ids of subjects and resources, for PDPs that refuse characters such as `:` and `@`."""

    NONE = "none"
    PERCENT = "percent"
    BASE64URL = "base64url"


_ENCODE: Final[Mapping[IdEncoding, Callable[[str], str]]] = {
    IdEncoding.PERCENT: lambda text: quote(text, safe=""),  # all but the unreserved characters of RFC 3986
    IdEncoding.BASE64URL: lambda text: urlsafe_b64encode(text.encode()).decode("ascii").rstrip("="),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdp:
    """One PDP, by its configured *name*. *source* is a digest of the settings that decide its responses.

    With *allow_on_error* a request passes if the PDP does not respond; with *expose_reason* the client gets the reason
    that the PDP gives for users. *excluded_headers* are headers that no question contains: those with credentials.
    """

    name: str
    source: str
    kind: PdpKind = PdpKind.AUTHZEN
    id_encoding: IdEncoding = IdEncoding.NONE
    allow_on_error: bool = False
    expose_reason: bool = False
    excluded_headers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Entity:
    """A subject or a resource of a question."""

    type: Text | Reference
    id: Text | Reference
    properties: Template = None


@dataclass(frozen=True, slots=True)
class Action:
    """The action of a question."""

    name: Text | Reference
    properties: Template = None


@dataclass(frozen=True, slots=True)
class ExternalDecision:
    """The question that a rule puts to *pdp*, as templates."""

    pdp: Pdp
    subject: Entity
    action: Action
    resource: Entity
    context: Template = None
    reads_subject: bool = field(init=False, compare=False, repr=False)
    reads_headers: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Derive, once, what the references read."""
        used = list(references_of(self.subject, self.action, self.resource, self.context))
        by_expression = any(reference.expression is not None for reference in used)
        reads_subject = by_expression or any(reference.names == ("claims", "sub") for reference in used)
        reads_headers = by_expression or any(reference.names[:1] == ("request.headers",) for reference in used)
        object.__setattr__(self, "reads_subject", reads_subject)
        object.__setattr__(self, "reads_headers", reads_headers)


def references_of(subject: Entity, action: Action, resource: Entity, context: Template) -> Iterator[Reference]:
    """Yield each reference of a question."""
    for entity in (subject, resource):
        yield from references([entity.type, entity.id, entity.properties])
    yield from references([action.name, action.properties, context])


@dataclass(frozen=True, slots=True)
class StepUp:
    """The authentication that a PDP asks for, in place of a denial. *max_age* is in seconds."""

    acr_values: tuple[str, ...] = ()
    max_age: int | None = None


class PdpDecision(StrEnum):
    """What a PDP decides; REFUSED if it refuses the question itself, as with status 400."""

    ALLOWED = "allowed"
    DENIED = "denied"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PdpResponse:
    """A response: *note* is for the operator, *reason* for the user, *step_up* for the challenge."""

    decision: PdpDecision
    note: str = field(default="", repr=False)
    reason: str = field(default="", repr=False)
    step_up: StepUp | None = None


def check_external(
    wanted: ExternalDecision,
    variables: Variables,
    trail: AuditTrail,
    facts: Facts,
    need: Need | None = None,
) -> Rejected | None:
    """Return if the PDP allows the request, or name the need for its response; *need* if it is known.

    If the PDP is down, and the configuration allows requests in that case, the denial is returned and not raised.

    Raises Rejected: PDP_DENIED, STEP_UP_REQUIRED, PDP_UNAVAILABLE, and as `pdp_need`.
    """
    pdp = wanted.pdp
    if need is None:
        need = pdp_need(wanted, variables)
    trail.pdp = pdp.name
    response = facts.get(need)
    if isinstance(response, PdpResponse):
        if response.decision is PdpDecision.ALLOWED:
            return None
        raise _deny(pdp, response)
    if isinstance(response, Unanswered) and need.optional and response.absent:
        return Rejected(Reason.PDP_UNAVAILABLE, f"allowed without an answer of pdp {pdp.name}: {response.why}")
    trail.needs = (need,)
    raise Rejected(Reason.PDP_UNAVAILABLE, f"pdp {pdp.name} has not answered")


def _deny(pdp: Pdp, response: PdpResponse) -> Rejected:
    note = f": {response.note}" if response.note else ""
    if response.decision is PdpDecision.REFUSED:
        denial = Rejected(Reason.PDP_DENIED, f"pdp {pdp.name} refuses the question{note}")
    elif response.step_up is not None:
        denial = Rejected(
            Reason.STEP_UP_REQUIRED,
            f"pdp {pdp.name} asks for another authentication{note}",
            acr_values=response.step_up.acr_values,
            max_age=response.step_up.max_age,
        )
    else:
        denial = Rejected(Reason.PDP_DENIED, f"pdp {pdp.name} denies{note}")
    denial.message = response.reason if pdp.expose_reason else ""
    return denial


_SUBJECT: Final = ClaimPath(("sub",))


def pdp_need(wanted: ExternalDecision, variables: Variables) -> Need:
    """Return the need for the PDP's response. Raises Rejected: POLICY_DENIED, CLAIMS_MALFORMED."""
    pdp = wanted.pdp
    if wanted.reads_subject:
        variables.claims.check_subject(_SUBJECT)
    if wanted.reads_headers:
        request = variables.request
        sent = {name: value for name, value in request.headers.items() if name not in pdp.excluded_headers}
        variables = replace(variables, request=replace(request, headers=sent))
    try:
        question = _write_question(wanted, variables)
    except NoValueError as error:
        raise Rejected(Reason.POLICY_DENIED, f"no question to pdp {pdp.name}: {error}") from error
    if len(question) > MAX_QUESTION_BYTES:
        raise Rejected(Reason.POLICY_DENIED, f"no question to pdp {pdp.name}: more than {MAX_QUESTION_BYTES} bytes")
    digest = sha256(f"{pdp.source}\0{question}".encode()).hexdigest()
    return Need(PDP, pdp.name, digest, Reason.PDP_UNAVAILABLE, question, optional=pdp.allow_on_error)


def _write_question(wanted: ExternalDecision, variables: Variables) -> str:
    """Return the question as JSON, on one line and with sorted members: equal questions have equal texts.

    Raises NoValueError.
    """
    encode = _ENCODE.get(wanted.pdp.id_encoding)
    subject = _write_entity(_SUBJECT_MEMBERS, wanted.subject, variables, encode)
    name = _require("action.name", wanted.action.name, variables)
    action = f'{{"name":{name}{_write_properties(wanted.action.properties, variables)}}}'
    resource = _write_entity(_RESOURCE_MEMBERS, wanted.resource, variables, encode)
    context = "" if wanted.context is None else f'"context":{write_json(render(wanted.context, variables))},'
    question = f'{{"action":{action},{context}"resource":{resource},"subject":{subject}}}'
    return f'{{"input":{question}}}' if wanted.pdp.kind is PdpKind.OPA else question


_SUBJECT_MEMBERS: Final = ("subject.type", "subject.id")
_RESOURCE_MEMBERS: Final = ("resource.type", "resource.id")


def _write_entity(
    names: tuple[str, str], entity: Entity, variables: Variables, encode: Callable[[str], str] | None
) -> str:
    type_name, id_name = names
    kind = _require(type_name, entity.type, variables)
    identifier = _require(id_name, entity.id, variables, encode)
    return f'{{"id":{identifier}{_write_properties(entity.properties, variables)},"type":{kind}}}'


def _require(
    name: str, text: Text | Reference, variables: Variables, encode: Callable[[str], str] | None = None
) -> str:
    rendered = render_text(text, variables, encode)
    if not rendered:
        raise NoValueError(f"{name} is {'absent' if rendered is None else 'empty'}")
    return write_json(rendered)


def _write_properties(properties: Template, variables: Variables) -> str:
    return "" if properties is None else f',"properties":{write_json(render(properties, variables))}'


def read_response(members: Mapping[str, object], kind: PdpKind) -> PdpResponse:
    """Read a response: for AuthZEN its `decision`, for OPA its `result`, a boolean or an object with a `decision`.

    Raises ValueError if there is no boolean: OPA leaves out `result` if the rule is undefined, or not loaded yet.
    """
    if kind is PdpKind.OPA:
        result = members.get("result")
        members = result if isinstance(result, Mapping) else {"decision": result}
    decision, context = members.get("decision"), members.get("context")
    if not isinstance(decision, bool):
        raise ValueError("the answer has no boolean " + ("result" if kind is PdpKind.OPA else "decision"))  # noqa: TRY004 - bad data
    if decision:
        return _ALLOWED
    if not isinstance(context, Mapping):
        return _DENIED
    return PdpResponse(
        PdpDecision.DENIED,
        _read_text(context.get("reason_admin")) or _read_text(context.get("reason")),
        _read_text(context.get("reason_user")),
        _read_step_up(context),
    )


_ALLOWED: Final = PdpResponse(PdpDecision.ALLOWED)
_DENIED: Final = PdpResponse(PdpDecision.DENIED)


def _read_text(value: object) -> str:
    """Return a reason: a text, or that of the member 403 of an object, else of its first; made printable and bounded.

    AuthZEN section 5.5 has such objects as examples.
    """
    if isinstance(value, Mapping):
        value = value.get("403", next(iter(value.values()), None))
    if not isinstance(value, str):
        return ""
    return "".join(char for char in value[:MAX_REASON_CHARS] if char.isprintable())


_ACR_VALUE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")  # in a quoted list of RFC 9470 section 3


def _read_step_up(context: Mapping[str, object]) -> StepUp | None:
    """Read `acr_values`, `amr_values` (both as in AuthZEN section 5.5, or lists) and `max_age`, in seconds.

    A challenge has no `amr_values` (RFC 9470 section 3), but is sent for them too: the client can authenticate again.
    """
    acr_values, age = _read_list(context.get("acr_values")), context.get("max_age")
    if isinstance(age, str) and age.isascii() and age.isdigit():
        age = int(age[:12])
    max_age = age if isinstance(age, int) and not isinstance(age, bool) and 0 <= age <= _MAX_AGE else None
    if not acr_values and max_age is None and not _read_list(context.get("amr_values")):
        return None
    return StepUp(acr_values, max_age)


def _read_list(value: object) -> tuple[str, ...]:
    """Return the words of a text or a list; none of them if a challenge cannot contain them all."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > MAX_ACR_VALUES:
        return ()
    texts = [word for word in words if isinstance(word, str) and _ACR_VALUE.fullmatch(word[:_MAX_ACR_CHARS])]
    return tuple(texts) if len(texts) == len(words) and all(len(text) <= _MAX_ACR_CHARS for text in texts) else ()
