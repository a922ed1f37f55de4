"""What rules may ask about a client beside its token: failures of its network and its subject, and a new network.

Rules of this file:
1. Risk is checked after everything else that is local, and only for rules that use it.
2. Counts are of this process, and of the past: the request that is decided is not among them.
3. A network is new for a subject that is known from others. Of a subject that is not known, none is new: after a start
   every user would have to log in again.
4. A denial for the risk, or by a condition that reads it, counts as no failure: a client would keep itself out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

from authz.core import policy
from authz.core.needs import Facts, Need
from authz.core.reasons import Reason, Rejected

if TYPE_CHECKING:
    from authz.core.claims import Claims
    from authz.core.decision import AuditTrail
    from authz.core.issuer import Issuer
    from authz.core.request import Request

CLIENT: Final = "client"  # the kind of a need for a ClientHistory: `asked` is the network, a line feed, the subject
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
        return {f"risk.{name}": getattr(self, name) for name in HISTORY}


HISTORY: Final = ("failures_1m", "failures_1h", "subject_failures_1m", "subject_failures_1h", "new_network")
"""The names of what is known of a client, in rules and conditions."""


class RiskCondition(Protocol):
    """A compiled expression over the request, its claims and the values of the risk."""

    def holds(self, request: Request, params: policy.Params, claims: Claims, risk: Mapping[str, object], /) -> bool:
        """Evaluate the expression, as `policy.Condition` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRequirement:
    """What a rule requires of the risk: each count at most that many; with *known_network*, no new network.

    If that is not met, the authentication in *step_up* is required, or the request denied without it. A *condition*
    that reads the risk is evaluated here.
    """

    max_failures_1m: int | None = None
    max_failures_1h: int | None = None
    max_subject_failures_1m: int | None = None
    max_subject_failures_1h: int | None = None
    known_network: bool = False
    step_up: policy.Requirements | None = None
    condition: RiskCondition | None = None


def name_subject(issuer: str, subject: str | None) -> str:
    """Return the name under which the failures of a subject count; empty for a token without one."""
    if not subject:
        return ""
    if len(subject) > MAX_SUBJECT_CHARS:
        subject = f"sha256:{sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return f"{issuer} {subject}"


def check_risk(
    wanted: RiskRequirement,
    whose: tuple[Issuer, Claims],
    request: Request,
    params: policy.Params,
    now: float,
    trail: AuditTrail,
    facts: Facts,
) -> None:
    """Reject a request that does not meet what its rule requires of the risk, or name the need for what is not known.

    *whose* are the issuer and the claims of its token.

    Raises Rejected: RISK_DENIED, STEP_UP_REQUIRED, POLICY_DENIED, RISK_UNAVAILABLE.
    """
    issuer, claims = whose
    history = _find_history(name_subject(issuer.name, claims.subject or claims.client), trail, facts)
    failed = next(_explain(wanted, history), "")
    if failed and wanted.step_up is not None:
        try:
            policy.require_step_up(wanted.step_up, claims, issuer.rules.leeway, now)
        except Rejected as rejected:
            rejected.detail = f"{failed}; {rejected.detail}"
            raise
    elif failed:
        raise Rejected(Reason.RISK_DENIED, failed)
    if wanted.condition is not None:
        policy.check_condition(partial(wanted.condition.holds, request, params, claims, history.values()))


def _find_history(subject: str, trail: AuditTrail, facts: Facts) -> ClientHistory:
    trail.reads_risk = True
    need = Need(CLIENT, "clients", f"{trail.network or ''}\n{subject}", Reason.RISK_UNAVAILABLE)
    history = facts.get(need)
    if not isinstance(history, ClientHistory):
        trail.needs = (need,)
        raise Rejected(Reason.RISK_UNAVAILABLE, "what is known of the client has not been looked up")
    return history


def _explain(wanted: RiskRequirement, history: ClientHistory) -> Iterator[str]:
    """Yield why the risk is not what the rule requires."""
    for what, name, most in (
        ("network", "1 m", wanted.max_failures_1m),
        ("network", "1 h", wanted.max_failures_1h),
        ("subject", "1 m", wanted.max_subject_failures_1m),
        ("subject", "1 h", wanted.max_subject_failures_1h),
    ):
        prefix = "subject_" if what == "subject" else ""
        found: int = getattr(history, f"{prefix}failures_{name.replace(' ', '')}")
        if most is not None and found > most:
            yield f"{found} failures of the {what} in {name}, at most {most}"
    if wanted.known_network and history.new_network:
        yield "the network is new for the subject"
