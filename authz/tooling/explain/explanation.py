"""Explain one decision, step by step, by observing the pipeline that decides.

The token is never shown; of its payload only iss, sub, aud, times and scopes; of identity headers only the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote

from authz.config.build import build_snapshot
from authz.config.issuer import Issuer as IssuerSection
from authz.config.model import Config
from authz.core.authorize import authorize
from authz.core.decision import Allow, Decision, outcome
from authz.core.dpop import SCHEME
from authz.core.exchange import EXCHANGED
from authz.core.introspection import INTROSPECTION
from authz.core.keys import KeySet
from authz.core.minting import MINTED
from authz.core.needs import MAX_ROUNDS, NO_FACTS, PROOF, Facts, Need
from authz.core.pdp import PDP
from authz.core.reasons import WIRE_STATUS, Reason
from authz.core.request import Request, join_headers
from authz.core.risk import CLIENT, RISK
from authz.core.snapshot import Snapshot
from authz.core.status_list import STATUS_LIST
from authz.core.steps import Step
from authz.core.token import HeaderSource, place_token
from authz.tooling.explain.needs import (
    AnsweredNeed,
    answer_client,
    answer_minted,
    answer_proof,
    ask_exchange,
    ask_issuer,
    ask_pdp,
    ask_risk,
    fetch_list,
    with_placeholder_key,
)
from authz.tooling.explain.notes import describe_envoys_part, describe_near_misses, describe_unknown_revocations
from authz.tooling.explain.remedies import find_remedies
from authz.tooling.explain.steps import Line, describe_steps, safe
from authz.tooling.key_probe import probe_issuer_keys

_PROOF: Final = "dpop"  # the header


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
                    "looked_at": line.looked_at,
                    "ended": line.ended,
                }
                for line in self.lines
            ],
            "needs": [answered.document() for answered in self.needs],
            "notes": list(self.notes),
        }


def format_document(document: Mapping[str, Any]) -> str:
    """Format what `Explanation.document` returned: the steps in columns, then the notes, then the decision."""
    steps = document["steps"]
    width = max((len(step["step"]) for step in steps), default=0)
    rows = [f"{step['number']:2} {step['step']:{width}}  {step['ended']:12}  {step['looked_at']}" for step in steps]
    status = f", HTTP {document['status']}" if document["status"] is not None else ""
    detail = f": {safe(document['detail'])}" if document["detail"] else ""
    verdict = f"{document['decision']} {document['reason']}{status}{detail}"
    needs = map(_describe_need, document["needs"])
    return "\n".join([*map(str.rstrip, rows), "", *needs, *document["notes"], verdict])


def _describe_need(need: Mapping[str, Any]) -> str:
    identifier = "" if need["asked"] is None else f" {safe(need['asked'])}"
    question = f"\n  question: {need['question']}" if need.get("question") else ""
    return f"need: {need['kind']}{identifier} of {need['of']}: {need['answer']}{question}"


_ASK_BY_KIND: Final = {
    INTROSPECTION: ask_issuer,
    PDP: ask_pdp,
    RISK: ask_risk,
    EXCHANGED: ask_exchange,
    STATUS_LIST: fetch_list,
}


def explain_question(question: Question, config: Config) -> Explanation:
    """Evaluate *question* against *config*, fetching the keys that are needed. Raises InputError."""
    snapshot = with_placeholder_key(build_snapshot(config), config)
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
            fetched = probe_issuer_keys(name, section)
            keys, key_source = fetched.keys, safe(fetched.location)
            if keys is None:
                why = f"{fetched.result}: {safe(fetched.detail)}"
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
            facts[need], answered_need = _find_fact(need, question, config, key_source)
            answered.append(answered_need)
    explained = explain(request, snapshot, question.at, facts)
    if explained.decision.trail.subject is not None:
        notes += describe_unknown_revocations(config)
    return replace(explained, notes=(*explained.notes, *notes), needs=tuple(answered))


def _find_fact(need: Need, question: Question, config: Config, key_source: str) -> tuple[object, AnsweredNeed]:
    """Return a fact, or None, and what answered the need; with a given key set, no other system is asked."""
    offline = question.jwks is not None
    if need.kind in _ASK_BY_KIND:
        fact, answer = (None, _OFFLINE) if offline else _ASK_BY_KIND[need.kind](need, config)
    elif need.kind == PROOF:
        fact, answer = answer_proof()
    elif need.kind == MINTED:
        fact, answer = answer_minted(need, question.at)
    elif need.kind == CLIENT:
        fact, answer = answer_client()
    else:
        fact, answer = key_source, f"searched for in {key_source}: not found"
    return fact, AnsweredNeed(need, answer)


_OFFLINE: Final = "not asked: a key set was given"


def explain(request: Request, snapshot: Snapshot, now: float, facts: Facts = NO_FACTS) -> Explanation:
    """Evaluate *request* against *snapshot* with *facts* at *now*, and describe each step."""
    passed: dict[int, Any] = {}
    decision = authorize(request, snapshot, now, facts, observe=passed.__setitem__)
    near_misses: tuple[str, ...] = ()
    if decision.reason is Reason.POLICY_DENIED and Step.RULE not in passed:
        near_misses = tuple(map(safe, describe_near_misses(snapshot.policy.rules, passed[Step.REQUEST], request)))
    remedies = tuple(map(safe, find_remedies(decision, passed, snapshot)))
    return Explanation(
        decision, tuple(describe_steps(passed, decision, request, snapshot, now)), near_misses + remedies
    )


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
