"""What a decision lacked, and what answered it."""

from __future__ import annotations

from dataclasses import dataclass

from authz.config.model import Config
from authz.core.dpop import ProofUse
from authz.core.needs import Need
from authz.facts.lane import SourceError
from authz.feeds.fact_lanes import make_introspection
from authz.feeds.status_lists import make_status_list_source
from authz.telemetry.redaction import printable


@dataclass(frozen=True, slots=True)
class AnsweredNeed:
    """A fact that the decision lacked, and its answer."""

    need: Need
    answer: str


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


def fetch_list(need: Need, config: Config) -> tuple[object, str]:
    """Fetch a status list; return it, or None, and what came of it in words."""
    try:
        fact = make_status_list_source(config.issuers[need.of])(need)
    except SourceError as error:
        return None, f"{error.result}: {printable(str(error))}"
    return fact.value, "fetched; a running sidecar fetches it again in the background"


def answer_proof() -> tuple[ProofUse, str]:
    """Return the fact about a proof, and how it came about: nothing is remembered by a look at a decision."""
    return ProofUse.FIRST, "taken as used for the first time; a running sidecar accepts it once"
