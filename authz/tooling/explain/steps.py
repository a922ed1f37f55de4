"""The input of each step of a decision, in words: the lines of an explanation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authz.core import policy
from authz.core.claims import Claims
from authz.core.decision import Allow, Decision, outcome
from authz.core.identity import HeaderChanges
from authz.core.issuer import Issuer
from authz.core.keys import Candidates
from authz.core.policy import Rule
from authz.core.reasons import Rejected
from authz.core.request import Request
from authz.core.requirements import Params
from authz.core.snapshot import Snapshot
from authz.core.steps import Step
from authz.core.token import CookieSource, FoundToken, HeaderSource, QuerySource, Source, UnverifiedToken
from authz.telemetry.redaction import printable
from authz.tooling.describe import describe_key, describe_requirements, enumerate_words
from authz.tooling.explain.binding import describe_binding


@dataclass(frozen=True, slots=True)
class Line:
    """One step: what it *looked_at*, and how it *ended*."""

    step: Step
    looked_at: str
    ended: str


def describe_steps(
    passed: Mapping[int, Any], decision: Decision, request: Request, snapshot: Snapshot, now: float
) -> list[Line]:
    """Describe the input of each step up to the one that failed."""
    context = _Context(passed, decision, request, snapshot, now)
    describers = {**_DESCRIBERS, **_OPAQUE_DESCRIBERS} if context.is_opaque else _DESCRIBERS
    lines = []
    for step in Step:
        if step in passed:
            lines.append(Line(step, safe(describers[step](context)), "ok"))
        elif lines and lines[-1].ended != "ok":
            lines.append(Line(step, "", "not reached"))
        else:
            lines.append(Line(step, safe(describers[step](context)), outcome(decision)))
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
    if (found_token := context.passed.get(Step.TOKEN)) is not None:
        return f"one, in {_place(found_token.source)}"
    if context.rule.allow in {policy.AccessMode.PUBLIC, policy.AccessMode.DENY}:
        return "not searched for"
    return f"searched for in {', '.join(map(_place, context.snapshot.token.sources))}"


def _describe_form(context: _Context) -> str:
    if Step.FORM not in context.passed:
        return f"a string of {len(context.passed[Step.TOKEN].text)} characters"
    return f"alg {context.token.alg}, kid {context.token.kid or 'absent'}, typ {context.token.typ or 'absent'}"


def _describe_issuer(context: _Context) -> str:
    configured = f", configured as {context.issuer.name}" if Step.ISSUER in context.passed else ""
    return f"iss {_member(context, 'iss')}{configured}"


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
    found_token: FoundToken = context.passed[Step.TOKEN]
    binding = describe_binding(context.members.get("cnf"), found_token, context.request, context.issuer, context.now)
    sources = ", ".join(source.name for source in context.snapshot.revocations)
    return f"{binding}; revocations: {sources}" if sources else binding


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


def safe(text: str) -> str:
    """Return *text* in printable characters."""
    return printable(text) or ""
