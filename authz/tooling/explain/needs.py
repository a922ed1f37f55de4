"""What a decision lacked, and what answered it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from authz.config.model import Config
from authz.core.dpop import ProofUse
from authz.core.needs import Need, Unanswered
from authz.facts.lane import SourceError
from authz.feeds.fact_lanes import make_introspection
from authz.feeds.pdp import make_pdp
from authz.telemetry.redaction import printable

MAX_QUESTION_CHARS: Final = 4000  # of a question to a policy decision point, that are shown


@dataclass(frozen=True, slots=True)
class AnsweredNeed:
    """A fact that the decision lacked, and its answer. A *question* is shown only if it contains no token."""

    need: Need
    answer: str
    question: str = ""


def ask_issuer(need: Need, config: Config) -> tuple[object, str]:
    """Ask an issuer about a token; return the fact, or None, and what came of it in words."""
    source = make_introspection(config.issuers[need.of])
    try:
        fact = source(need)
    except SourceError as error:
        return None, f"{error.result}: {printable(str(error))}"
    finally:
        source.close()
    return fact.value, f"{fact.result}; a running sidecar keeps this answer for {fact.keep:.0f} s"


def ask_pdp(need: Need, config: Config) -> tuple[object, AnsweredNeed]:
    """Ask a policy decision point; return the fact, and what was asked and answered."""
    pdp = config.pdps[need.of]
    source = make_pdp(pdp)
    try:
        fact = source(need)
    except SourceError as error:
        return Unanswered(str(error), error.absent), answer_pdp(need, f"{error.result}: {printable(str(error))}")
    finally:
        source.close()
    kept = f"keeps this answer for {fact.keep:.0f} s" if fact.keep else "asks each time (cache: 0s)"
    return fact.value, answer_pdp(need, f"{fact.result}; a running sidecar {kept}")


def answer_pdp(need: Need, answer: str) -> AnsweredNeed:
    """Return what a policy decision point is asked, and its *answer*."""
    return AnsweredNeed(need, answer, printable(need.sent, MAX_QUESTION_CHARS) or "")


def answer_proof() -> tuple[ProofUse, str]:
    """Return the fact about a proof, and how it came about: nothing is remembered by a look at a decision."""
    return ProofUse.FIRST, "taken as used for the first time; a running sidecar accepts it once"
