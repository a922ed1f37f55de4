"""L: networks that are slowed down, and what rules require of the risk."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from authz.core.needs import Facts, Need, Unanswered
from authz.core.reasons import Reason
from authz.core.requirements import Requirements, RiskRequirement
from authz.core.risk import CLIENT, RISK, Assessment, ClientHistory, RiskEngine
from authz.core.snapshot import Snapshot
from authz.core.throttle import ACCEPTED, THROTTLE, TOKEN, ClientRules, Throttle, Throttled, digest_token
from tests.cases.case import Case, case
from tests.fixtures import DEFAULT_SNAPSHOT, make_snapshot, mint, rule

OFFICE: Final = "192.0.2.1"
GOOD: Final = mint()
GUARDED: Final = replace(DEFAULT_SNAPSHOT, clients=ClientRules(throttle=Throttle(failures=20, window=60.0)))
SHADOW: Final = replace(DEFAULT_SNAPSHOT, clients=ClientRules(throttle=Throttle(failures=20, window=60.0, shadow=True)))
SLOW: Final[Facts] = {Need(THROTTLE, "clients", OFFICE): Throttled(3.0)}
KNOWN: Final[Facts] = {**SLOW, Need(ACCEPTED, TOKEN, digest_token(GOOD)): True}

MFA: Final = Requirements(acr=("mfa",))


def risky(**wanted: object) -> Snapshot:
    """Require something of the risk in the only rule."""
    engine = not wanted.keys().isdisjoint({"levels", "max_score"})
    risk = RiskRequirement(asks_engine=engine, **wanted)  # type: ignore[arg-type]
    return make_snapshot(rule("r", "/**", risk=risk), clients=ClientRules(), risk=RiskEngine(source="engine"))


def says(level: str | None = None, score: float | None = None) -> Facts:
    """Let the engine say this of any request, and nothing be known of the client."""
    return AnyAssessment(Assessment(level, score))


class AnyAssessment(dict[Need, object]):
    """The facts of an engine that says the same of every request."""

    def __init__(self, assessment: Assessment | Unanswered) -> None:
        super().__init__(known())
        self._assessment = assessment

    def get(self, need: Need, default: object = None) -> object:
        """Return the assessment for its kind of need."""
        return self._assessment if need.kind == RISK else super().get(need, default)


def known(**history: int) -> Facts:
    """Return what is known of bob in the office."""
    return {Need(CLIENT, "clients", f"{OFFICE}\na bob"): ClientHistory(**history)}  # type: ignore[arg-type]


OF_NETWORK: Final = known(failures_1m=21, failures_1h=21)
OF_SUBJECT: Final = known(subject_failures_1m=21, subject_failures_1h=21)
ELSEWHERE: Final = known(new_network=True)

CASES: Final[list[Case]] = [
    case("slow-L01", Reason.THROTTLED, GOOD, snapshot=GUARDED, facts=SLOW, source_address=OFFICE),
    case("slow-garbage-L02", Reason.THROTTLED, "garbage", snapshot=GUARDED, facts=SLOW, source_address=OFFICE),
    case("slow-and-known-L03", Reason.AUTHENTICATED, GOOD, snapshot=GUARDED, facts=KNOWN, source_address=OFFICE),
    case("slow-elsewhere-L04", Reason.AUTHENTICATED, GOOD, snapshot=GUARDED, facts=SLOW, source_address="192.0.2.2"),
    case("slow-in-shadow-L05", Reason.AUTHENTICATED, GOOD, snapshot=SHADOW, facts=SLOW, source_address=OFFICE),
    case("slow-no-token-L06", Reason.TOKEN_MISSING, snapshot=GUARDED, facts=SLOW, source_address=OFFICE),
    *(
        case(f"risk-{name}", reason, token, snapshot=risky(**wanted), facts=facts, source_address=OFFICE)
        for name, reason, token, wanted, facts in (
            ("network-1m-L08", Reason.RISK_DENIED, GOOD, {"max_failures_1m": 20}, OF_NETWORK),
            ("network-1h-L09", Reason.RISK_DENIED, GOOD, {"max_failures_1h": 20}, OF_NETWORK),
            ("subject-1m-L10", Reason.RISK_DENIED, GOOD, {"max_subject_failures_1m": 20}, OF_SUBJECT),
            ("subject-1h-L11", Reason.RISK_DENIED, GOOD, {"max_subject_failures_1h": 20}, OF_SUBJECT),
            ("subject-of-others-L12", Reason.AUTHENTICATED, GOOD, {"max_failures_1h": 20}, OF_SUBJECT),
            ("new-network-L13", Reason.RISK_DENIED, GOOD, {"known_network": True}, ELSEWHERE),
            ("step-up-L14", Reason.STEP_UP_REQUIRED, GOOD, {"known_network": True, "step_up": MFA}, ELSEWHERE),
            (
                "stepped-up-L15",
                Reason.AUTHENTICATED,
                mint(acr="mfa"),
                {"known_network": True, "step_up": MFA},
                ELSEWHERE,
            ),
            ("level-L17", Reason.RISK_DENIED, GOOD, {"levels": ("low",)}, says("high")),
            ("no-level-L18", Reason.RISK_DENIED, GOOD, {"levels": ("low",)}, says(None, 0.0)),
            ("score-L19", Reason.RISK_DENIED, GOOD, {"max_score": 0.7}, says("low", 0.71)),
            ("no-score-L20", Reason.RISK_DENIED, GOOD, {"max_score": 0.7}, says("low")),
            ("low-L21", Reason.AUTHENTICATED, GOOD, {"max_score": 0.7, "levels": ("low",)}, says("low", 0.7)),
            ("no-answer-L22", Reason.RISK_UNAVAILABLE, GOOD, {"levels": ("low",)}, known()),
            ("not-looked-up-L16", Reason.RISK_UNAVAILABLE, GOOD, {"known_network": True}, {}),
        )
    ),
    case("slow-public-L07", Reason.PUBLIC, GOOD, snapshot=GUARDED, facts=SLOW, source_address=OFFICE, path="/public/x"),
]
