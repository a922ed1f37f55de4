"""Explain one decision, step by step, by observing the pipeline that decides.

The token is never shown; of its payload only iss, sub, aud, times and scopes; of identity headers only the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote

from authz.config.build import build_snapshot
from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.core import policy
from authz.core.authorize import authorize
from authz.core.claims import Claims
from authz.core.decision import Allow, Decision, outcome
from authz.core.dpop import SCHEME
from authz.core.identity import HeaderChanges
from authz.core.introspection import INTROSPECTION
from authz.core.issuer import Issuer
from authz.core.keys import Candidates, KeySet
from authz.core.needs import NO_FACTS, PROOF, Facts, Need
from authz.core.policy import Params, Rule
from authz.core.reasons import WIRE_STATUS, Reason, Rejected
from authz.core.request import Request, join_headers
from authz.core.snapshot import Snapshot
from authz.core.steps import Step
from authz.core.token import CookieSource, FoundToken, HeaderSource, QuerySource, Source, UnverifiedToken, place_token
from authz.telemetry.redaction import printable
from authz.tooling.describe import describe_key, describe_requirements, enumerate_words
from authz.tooling.explain.binding import describe_binding
from authz.tooling.explain.needs import AnsweredNeed, answer_proof, ask_issuer
from authz.tooling.explain.notes import describe_envoys_part, describe_near_misses
from authz.tooling.explain.remedies import find_remedies
from authz.tooling.probe import fetch_one

_PROOF: Final = "dpop"  # the header
MAX_ROUNDS: Final = 3  # of facts, as a running sidecar gathers them


class InputError(ValueError):
    """Raised if the given key set is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request to evaluate *at* a Unix time, with the keys in *jwks* or the issuer's own keys.

    *address* and *certificate*, as PEM, are the client's. With a *proof* (DPoP), or a header dpop, the token is sent
    under the scheme DPoP.
    """

    method: str
    host: str
    path: str
    at: float
    scheme: str = "https"
    address: str = ""
    certificate: str = field(default="", repr=False)
    headers: list[tuple[str, str]] = field(default_factory=list)
    context: Mapping[str, str] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)
    proof: str | None = field(default=None, repr=False)
    jwks: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One step: what it was *given*, and how it *ended*."""

    step: Step
    given: str
    ended: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with its steps, its *needs*, and *notes* that help to understand it."""

    decision: Decision
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    needs: tuple[AnsweredNeed, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the request is allowed, including by a shadow rule."""
        return isinstance(self.decision, Allow)

    def table(self) -> str:
        """Format the steps in columns, then the notes, then the decision."""
        return format_document(self.document())

    def document(self) -> dict[str, Any]:
        """Return the same as JSON data."""
        trail = self.decision.trail
        return {
            "decision": outcome(self.decision),
            "reason": self.decision.reason.value,
            "status": None if self.allowed else WIRE_STATUS[self.decision.reason].http,
            "detail": self.decision.detail,
            "rule": trail.rule,
            "issuer": trail.issuer,
            "subject": trail.subject,
            "steps": [
                {
                    "number": int(line.step),
                    "step": line.step.name.lower(),
                    "looked_at": line.given,
                    "ended": line.ended,
                }
                for line in self.lines
            ],
            "needs": [
                {"kind": each.need.kind, "of": each.need.of, "asked": each.need.asked, "answer": each.answer}
                for each in self.needs
            ],
            "notes": list(self.notes),
        }


def format_document(document: Mapping[str, Any]) -> str:
    """Format what `Explanation.document` returned: the steps in columns, then the notes, then the decision."""
    steps = document["steps"]
    width = max((len(step["step"]) for step in steps), default=0)
    rows = [f"{step['number']:2} {step['step']:{width}}  {step['ended']:12}  {step['looked_at']}" for step in steps]
    status = f", HTTP {document['status']}" if document["status"] is not None else ""
    detail = f": {_safe(document['detail'])}" if document["detail"] else ""
    verdict = f"{document['decision']} {document['reason']}{status}{detail}"
    needs = (_describe_need(**need) for need in document["needs"])
    return "\n".join([*map(str.rstrip, rows), "", *needs, *document["notes"], verdict])


def _describe_need(kind: str, of: str, asked: str | None, answer: str) -> str:
    return f"need: {kind}{'' if asked is None else f' {_safe(asked)}'} of {of}: {answer}"


def answer(question: Question, config: Config) -> Explanation:
    """Evaluate *question* against *config*, fetching the keys that are needed. Raises InputError."""
    snapshot = build_snapshot(config)
    request = build_request(question, snapshot)
    decision = authorize(request, snapshot, question.at)
    name, notes = decision.trail.issuer, list(describe_envoys_part(question.path, config))
    key_source = "the keys in this configuration"
    if name is not None and (question.jwks is not None or decision.reason is Reason.KEYS_UNAVAILABLE):
        section = config.issuers[name]
        if question.jwks is not None:
            keys: KeySet | None = _read_keys(question.jwks, section)
            key_source = "the given key set"
        else:
            fetched = fetch_one(name, section)
            keys, key_source = fetched.keys, _safe(fetched.where)
            if keys is None:
                why = f"{fetched.result}: {_safe(fetched.detail)}"
                notes.append(
                    f"note: no keys of {name} fetched here ({why}); a running sidecar may still have some: authz keys"
                )
        filled = {iss: replace(snapshot.issuers[iss], keys=keys) for iss in section.accepted_issuers}
        snapshot = replace(snapshot, issuers={**snapshot.issuers, **filled})
    facts: dict[Need, object] = {}
    answered: list[AnsweredNeed] = []
    for _ in range(MAX_ROUNDS):
        for need in authorize(request, snapshot, question.at, facts).trail.needs:
            if need in facts:
                continue
            if need.kind == INTROSPECTION:
                fact, said = (
                    ask_issuer(need, config) if question.jwks is None else (None, "not asked: a key set was given")
                )
            elif need.kind == PROOF:
                fact, said = answer_proof()
            else:
                fact, said = key_source, f"searched for in {key_source}: not found"
            facts[need] = fact
            answered.append(AnsweredNeed(need, said))
    explained = explain(request, snapshot, question.at, facts)
    return replace(explained, notes=(*explained.notes, *notes), needs=tuple(answered))


def explain(request: Request, snapshot: Snapshot, now: float, facts: Facts = NO_FACTS) -> Explanation:
    """Evaluate *request* against *snapshot* with *facts* at *now*, and describe each step."""
    passed: dict[int, Any] = {}
    decision = authorize(request, snapshot, now, facts, observe=passed.__setitem__)
    near: tuple[str, ...] = ()
    if decision.reason is Reason.POLICY_DENIED and Step.RULE not in passed:
        near = tuple(map(_safe, describe_near_misses(snapshot.policy.rules, passed[Step.REQUEST], request)))
    remedies = tuple(map(_safe, find_remedies(decision, passed, snapshot)))
    return Explanation(decision, tuple(_describe_steps(passed, decision, request, snapshot, now)), near + remedies)


def build_request(question: Question, snapshot: Snapshot) -> Request:
    """Return the request of *question*, with its token in the first place where *snapshot* looks for one."""
    request = Request(
        method=question.method,
        host=question.host,
        path=question.path,
        scheme=question.scheme,
        headers=join_headers([*question.headers, *([] if question.proof is None else [(_PROOF, question.proof)])]),
        context=question.context,
        source_address=question.address,
        certificate=quote(question.certificate, safe=""),
    )
    if question.token is None:
        return request
    by_proof = HeaderSource("authorization", SCHEME)
    source = by_proof if _PROOF in request.headers else snapshot.token.sources[0]
    return place_token(question.token, source, request)


def _read_keys(document: bytes, section: IssuerSection) -> KeySet:
    try:
        keys = KeySet.from_json(
            document,
            local=section.jwks_file is not None,
            max_keys=section.fetch.max_keys,
            x5c_mismatch=section.insecure.x5c_mismatch,
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    return keys.block(section.blocked_keys)


def _describe_steps(
    passed: Mapping[int, Any], decision: Decision, request: Request, snapshot: Snapshot, now: float
) -> list[Line]:
    """Describe the input of each step up to the one that failed."""
    context = _Context(passed, decision, request, snapshot, now)
    describers = {**_DESCRIBERS, **_OPAQUE_DESCRIBERS} if context.is_opaque else _DESCRIBERS
    lines = []
    for step in Step:
        if step in passed:
            lines.append(Line(step, _safe(describers[step](context)), "ok"))
        elif lines and lines[-1].ended != "ok":
            lines.append(Line(step, "", "not reached"))
        else:
            lines.append(Line(step, _safe(describers[step](context)), outcome(decision)))
    return lines


@dataclass(frozen=True, slots=True)
class _Context:
    """The decision, its input, and the results of the steps that passed."""

    passed: Mapping[int, Any]
    decision: Decision
    request: Request
    snapshot: Snapshot
    now: float

    @property
    def rule(self) -> Rule:
        rule: Rule = self.passed[Step.RULE][0]
        return rule

    @property
    def token(self) -> UnverifiedToken:
        token: UnverifiedToken = self.passed[Step.FORM]
        return token

    @property
    def is_opaque(self) -> bool:
        """Whether the token is no JWT, and its issuer is asked about it."""
        return Step.FORM in self.passed and self.passed[Step.FORM] is None

    @property
    def members(self) -> Mapping[str, object]:
        """The members of the payload, which may not be verified yet, or of the issuer's answer."""
        members: Mapping[str, object] = self.passed[Step.SIGNATURE].members if self.is_opaque else self.token.members
        return members

    @property
    def issuer(self) -> Issuer:
        issuer: Issuer = self.passed[Step.ISSUER]
        return issuer


def _describe_request(context: _Context) -> str:
    if (target := context.passed.get(Step.REQUEST)) is not None:
        return f"{target.method} {target.host} {target.path.text}"
    request = context.request
    return f"{request.method} {request.host} {request.path.partition('?')[0]}"


def _describe_rule(context: _Context) -> str:
    if Step.RULE not in context.passed:
        document = isinstance(context.decision, Allow) and context.decision.document is not None
        return (
            "answered by the sidecar itself (RFC 9728)" if document else f"{len(context.snapshot.policy.rules)} rules"
        )
    rule = context.rule
    params: Params = context.passed[Step.RULE][1]
    bound = "".join(f", {name}={value}" for name, value in params.items())
    return f"{rule.name}, allow {rule.allow}{', in shadow' if rule.shadow else ''}{bound}"


def _describe_token(context: _Context) -> str:
    if (found := context.passed.get(Step.TOKEN)) is not None:
        return f"one, in {_place(found.source)}"
    if context.rule.allow in {policy.AccessMode.PUBLIC, policy.AccessMode.DENY}:
        return "not searched for"
    return f"searched for in {', '.join(map(_place, context.snapshot.token.sources))}"


def _describe_form(context: _Context) -> str:
    if Step.FORM not in context.passed:
        return f"a string of {len(context.passed[Step.TOKEN].text)} characters"
    return f"alg {context.token.alg}, kid {context.token.kid or 'absent'}, typ {context.token.typ or 'absent'}"


def _describe_issuer(context: _Context) -> str:
    known = f", configured as {context.issuer.name}" if Step.ISSUER in context.passed else ""
    return f"iss {_member(context, 'iss')}{known}"


def _describe_algorithm(context: _Context) -> str:
    rules = context.issuer.rules
    allowed = enumerate_words(context.issuer.algorithms)
    return f"alg {context.token.alg} of {allowed}; typ of {enumerate_words(rules.token_types)}"


def _describe_keys(context: _Context) -> str:
    keys = context.issuer.keys
    return f"{len(keys.keys)} usable, {len(keys.rejected)} rejected" if keys is not None else "none"


def _describe_key(context: _Context) -> str:
    if (candidates := context.passed.get(Step.KEY)) is not None:
        return _describe_candidates(candidates)
    kids = [key.kid or "without kid" for key in context.passed[Step.KEYS].keys]
    return f"kid {context.token.kid or 'absent'} for {context.token.alg}, among {enumerate_words(kids[:8])}"


def _describe_signature(context: _Context) -> str:
    if (signed := context.passed.get(Step.SIGNATURE)) is not None:
        return f"by {describe_key(signed.key)}"
    return f"by {_describe_candidates(context.passed[Step.KEY])}"


def _describe_candidates(candidates: Candidates) -> str:
    return " or ".join(
        "; ".join((describe_key(key), *(f"note: {note}" for note in key.notes))) for key in candidates.keys
    )


def _describe_claims(context: _Context) -> str:
    rules = context.issuer.rules
    times = (
        f"{name} in {value - context.now:.0f} s"
        for name in ("exp", "nbf", "iat")
        if isinstance(value := context.members.get(name), int | float)
    )
    audience = (
        f"{rules.audience_claim} {_member(context, rules.audience_claim)} for one of {enumerate_words(rules.audiences)}"
    )
    return "; ".join([f"sub {_member(context, 'sub')}", *times, f"leeway {rules.leeway:g} s", audience])


def _describe_asked(context: _Context) -> str:
    return f"{context.issuer.name}, which is asked about tokens that are no JWT"


def _describe_answer(context: _Context) -> str:
    return f"{'active' if Step.SIGNATURE in context.passed else 'asked'}, in the words of {context.issuer.name}"


def _describe_binding(context: _Context) -> str:
    found: FoundToken = context.passed[Step.TOKEN]
    return describe_binding(context.members.get("cnf"), found, context.request, context.issuer, context.now)


def _describe_requirements(context: _Context) -> str:
    claims: Claims = context.passed[Step.CLAIMS]
    scopes = f"; scopes granted: {' '.join(sorted(claims.scopes)) or 'none'}"
    return f"{describe_requirements(context.rule.requirements)}{scopes}"


def _describe_headers(context: _Context) -> str:
    changes: HeaderChanges | None = context.passed.get(Step.HEADERS)
    if changes is None:
        return "values of the identity headers"
    return f"set: {enumerate_words([name for name, _ in changes.set]) or 'none'}; removed: {len(changes.remove)} names"


_DESCRIBERS: Final[Mapping[Step, Callable[[_Context], str]]] = {
    Step.REQUEST: _describe_request,
    Step.RULE: _describe_rule,
    Step.TOKEN: _describe_token,
    Step.FORM: _describe_form,
    Step.ISSUER: _describe_issuer,
    Step.ALGORITHM: _describe_algorithm,
    Step.KEYS: _describe_keys,
    Step.KEY: _describe_key,
    Step.SIGNATURE: _describe_signature,
    Step.CLAIMS: _describe_claims,
    Step.BINDING: _describe_binding,
    Step.REQUIREMENTS: _describe_requirements,
    Step.HEADERS: _describe_headers,
}


_OPAQUE_DESCRIBERS: Final[Mapping[Step, Callable[[_Context], str]]] = {
    Step.FORM: lambda context: f"an opaque token of {len(context.passed[Step.TOKEN].text)} characters",
    Step.ISSUER: _describe_asked,
    **dict.fromkeys((Step.ALGORITHM, Step.KEYS, Step.KEY), lambda _: "no signature"),
    Step.SIGNATURE: _describe_answer,
}


def _member(context: _Context, name: str) -> str:
    """Return one member of the payload, which may not be verified yet."""
    try:
        value = context.members.get(name)
    except Rejected:
        return "unreadable"
    return "absent" if value is None else str(value)


def _place(source: Source) -> str:
    match source:
        case HeaderSource(header):
            return f"header {header}"
        case CookieSource(cookie):
            return f"cookie {cookie}"
        case QuerySource(parameter):
            return f"query parameter {parameter}"


def _safe(text: str) -> str:
    return printable(text) or ""
