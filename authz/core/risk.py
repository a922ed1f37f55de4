"""What rules may ask about a client beside its token: its failures, a new network, and what a risk engine says.

Rules of this file:
1. Risk is checked after everything else that is local, and only for rules that use it.
2. Counts are of this process, and of the past: the request that is decided is not among them.
3. A network is new if its subject was seen before, and only in other networks. For a subject that was never seen, no
   network is new: otherwise every user would have to log in again after a start.
4. The engine is asked last, and only for a rule that reads its answer. Without an answer the request is denied, unless
   the engine is down and the configuration says what that counts as. An error in response to the question, or a limit
   of ours, denies nevertheless: a client can cause it.
5. A denial for the risk, or by a condition that reads it, is not counted as a failure: it would prolong itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Final

from authz.core.caller import Caller
from authz.core.client_network import NetworkRules, address_of
from authz.core.decision import AuditTrail
from authz.core.needs import Facts, Need, Unanswered
from authz.core.reasons import Reason, Rejected
from authz.core.requirements import Params, RiskRequirement, check_condition, require_step_up

RISK: Final = "risk"  # the kind of a need for an Assessment of the risk engine
ENGINE: Final = "engine"  # the source of a need of that kind
CLIENT: Final = "client"  # the kind of a need for a ClientHistory; `identifier` is network, line feed and subject
MAX_QUESTION_BYTES: Final = 65_536
MAX_SUBJECT_CHARS: Final = 128  # of a name; longer ones are named by a digest

SUBJECT_FAILURES: Final = frozenset(
    {
        Reason.INSUFFICIENT_SCOPE,
        Reason.PDP_DENIED,
        Reason.POLICY_DENIED,
        Reason.PROOF_INVALID,
        Reason.TOKEN_BOUND,
        Reason.TOKEN_INACTIVE,
        Reason.TOKEN_REVOKED,
    }
)
"""The reasons that count as a failure of the subject of a token whose claims are valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHistory:
    """What is known of a client: failures of its network and its subject in the last minute and the last hour.

    *new_network*: the subject is known, and not from this network.
    """

    failures_1m: int = 0
    failures_1h: int = 0
    subject_failures_1m: int = 0
    subject_failures_1h: int = 0
    new_network: bool = False

    def values(self) -> dict[str, object]:
        """Return what conditions read, by name."""
        return {f"risk.{name}": getattr(self, name) for name in HISTORY_FIELDS}


HISTORY_FIELDS: Final = ("failures_1m", "failures_1h", "subject_failures_1m", "subject_failures_1h", "new_network")
"""The names of what is known of a client, in rules and conditions."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a risk engine says of a request: a level, a score, or both."""

    level: str | None = None
    score: float | None = None

    def values(self) -> dict[str, object]:
        """Return what conditions read, by name; what the engine does not say is absent."""
        values: dict[str, object] = {"risk.level": self.level, "risk.score": self.score}
        return {name: value for name, value in values.items() if value is not None}


ASSESSMENT_FIELDS: Final = ("level", "score")
"""The names of what an engine says, in conditions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskEngine:
    """The risk engine: *source* is a digest of what else decides its answers, *headers* are those that it gets.

    *networks* say which address a client has. *on_error* is the assessment to use while the engine is down; without it
    the request is denied as retryable.
    """

    source: str
    headers: tuple[str, ...] = ()
    networks: NetworkRules = field(default_factory=NetworkRules)
    on_error: Assessment | None = None


def name_subject(issuer: str, subject: str | None) -> str:
    """Return the name under which the failures of a subject count; empty for a token without one."""
    if not subject:
        return ""
    if len(subject) > MAX_SUBJECT_CHARS:
        subject = f"sha256:{sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return f"{issuer} {subject}"


def check_risk(
    wanted: RiskRequirement,
    caller: Caller,
    params: Params,
    engine: RiskEngine | None,
    now: float,
    trail: AuditTrail,
    facts: Facts,
) -> None:
    """Reject a request that does not meet what its rule requires of the risk, or name the need for what is not known.

    *params* are of its path, *now* is in seconds since the epoch.

    Raises Rejected: RISK_DENIED, STEP_UP_REQUIRED, POLICY_DENIED, RISK_UNAVAILABLE.
    """
    claims = caller.claims
    history = _find_history(name_subject(caller.issuer.name, claims.subject or claims.client), trail, facts)
    _require(next(_explain_history(wanted, history), ""), wanted, caller, now)
    values = history.values()
    if wanted.asks_engine:
        assessment = _assess(engine, caller, trail, facts)
        _require(next(_explain_assessment(wanted, assessment), ""), wanted, caller, now)
        values |= assessment.values()
    if wanted.condition is not None:
        check_condition(partial(wanted.condition.holds, caller.request, params, claims, values))


def _require(failed: str, wanted: RiskRequirement, caller: Caller, now: float) -> None:
    """Deny if a check *failed*, unless the token proves the step-up authentication of the rule. Raises Rejected."""
    if not failed:
        return
    if wanted.step_up is None:
        raise Rejected(Reason.RISK_DENIED, failed)
    try:
        require_step_up(wanted.step_up, caller.claims, caller.issuer.rules.leeway, now)
    except Rejected as rejected:
        rejected.detail = f"{failed}; {rejected.detail}"
        raise


def _assess(engine: RiskEngine | None, caller: Caller, trail: AuditTrail, facts: Facts) -> Assessment:
    """Return what the engine says, or `on_error` while it is down; or name the need for it. Raises Rejected."""
    if engine is None:
        raise Rejected(Reason.RISK_UNAVAILABLE, "no risk engine is configured: inconsistent snapshot")
    request, claims = caller.request, caller.claims
    question = {
        "issuer": caller.issuer.name,
        "subject": claims.subject,
        "client": claims.client,
        "address": address_of(request, engine.networks),
        "headers": {name: request.headers[name] for name in engine.headers if name in request.headers},
    }
    payload = json.dumps(question)
    if len(payload) > MAX_QUESTION_BYTES:
        raise Rejected(Reason.RISK_DENIED, f"no question to the risk engine: more than {MAX_QUESTION_BYTES} bytes")
    digest = sha256(f"{engine.source}\0{payload}".encode()).hexdigest()
    optional = engine.on_error is not None
    need = Need(RISK, ENGINE, digest, Reason.RISK_UNAVAILABLE, payload, optional=optional)
    assessment = facts.get(need)
    if isinstance(assessment, Assessment):
        return assessment
    if isinstance(assessment, Unanswered) and assessment.absent and engine.on_error is not None:
        return engine.on_error
    trail.needs = (need,)
    raise Rejected(Reason.RISK_UNAVAILABLE, "the risk engine has not answered")


def _explain_assessment(wanted: RiskRequirement, assessment: Assessment) -> Iterator[str]:
    """Yield why the risk is not what the rule requires. An answer without what the rule reads does not meet it."""
    score = assessment.score
    if wanted.max_score is not None and (score is None or score > wanted.max_score):
        score_text = "no score" if score is None else f"score {score:g}"
        yield f"the risk engine gives {score_text}, at most {wanted.max_score:g}"
    if wanted.levels and assessment.level not in wanted.levels:
        yield f"the risk engine gives {assessment.level or 'no level'}, and not {' or '.join(wanted.levels)}"


def _find_history(subject: str, trail: AuditTrail, facts: Facts) -> ClientHistory:
    trail.reads_risk = True
    need = Need(CLIENT, "clients", f"{trail.network or ''}\n{subject}", Reason.RISK_UNAVAILABLE)
    history = facts.get(need)
    if not isinstance(history, ClientHistory):
        trail.needs = (need,)
        raise Rejected(Reason.RISK_UNAVAILABLE, "what is known of the client has not been looked up")
    return history


def _explain_history(wanted: RiskRequirement, history: ClientHistory) -> Iterator[str]:
    """Yield why the risk is not what the rule requires."""
    for counted, period, limit in (
        ("network", "1 m", wanted.max_failures_1m),
        ("network", "1 h", wanted.max_failures_1h),
        ("subject", "1 m", wanted.max_subject_failures_1m),
        ("subject", "1 h", wanted.max_subject_failures_1h),
    ):
        prefix = "subject_" if counted == "subject" else ""
        count: int = getattr(history, f"{prefix}failures_{period.replace(' ', '')}")
        if limit is not None and count > limit:
            yield f"{count} failures of the {counted} in {period}, at most {limit}"
    if wanted.known_network and history.new_network:
        yield "the network is new for the subject"
