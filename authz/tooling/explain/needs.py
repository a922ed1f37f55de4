"""The needs of a decision, and their answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from authz.config.model import Config
from authz.core.dpop import ProofUse
from authz.core.exchange import read_request
from authz.core.minting import Minted, SigningKey
from authz.core.needs import Need, Unanswered
from authz.core.pdp import PDP
from authz.core.risk import RISK, ClientHistory
from authz.core.signing_request import read_signing_request
from authz.core.snapshot import Snapshot
from authz.facts.source import Fact, SourceError
from authz.feeds.build_exchange import make_exchange
from authz.feeds.fact_lanes import make_introspection
from authz.feeds.json_service import JsonSource
from authz.feeds.pdp import make_pdp
from authz.feeds.risk import make_risk
from authz.feeds.status_lists import make_status_list_source
from authz.telemetry.redaction import printable

MAX_QUESTION_CHARS: Final = 4000  # of a question, that are shown


@dataclass(frozen=True, slots=True)
class AnsweredNeed:
    """A fact that the decision lacked, and its answer."""

    need: Need
    answer: str

    @property
    def question(self) -> str:
        """The question, if it is of a kind that contains no token; otherwise ""."""
        sent = self.need.payload if self.need.kind in _WITHOUT_TOKEN else ""
        return printable(sent, MAX_QUESTION_CHARS) or ""

    def document(self) -> dict[str, object]:
        """Return the same as JSON data."""
        document: dict[str, object] = {
            "kind": self.need.kind,
            "of": self.need.source,
            "asked": self.need.identifier,
            "answer": self.answer,
        }
        return document | ({"question": self.question} if self.question else {})


_WITHOUT_TOKEN: Final = frozenset({PDP, RISK})


def ask_issuer(need: Need, config: Config) -> tuple[object, str]:
    """Ask an issuer about a token; return the fact, or None, and the result in words."""
    source = make_introspection(config.issuers[need.source])
    try:
        fact = source(need)
    except SourceError as error:
        return None, f"{error.result}: {printable(str(error))}"
    finally:
        source.close()
    return fact.value, f"{fact.result}; a running sidecar keeps this answer for {fact.ttl:.0f} s"


def ask_pdp(need: Need, config: Config) -> tuple[object, str]:
    """Ask a policy decision point; return the fact, or why there is none, and the result in words."""
    return _ask_service(make_pdp(config.pdps[need.source]), need, lambda fact: fact.result)


def ask_exchange(need: Need, config: Config) -> tuple[object, str]:
    """Exchange the token of *need*; return the fact, or None, and the result in words, without the token."""
    exchange = config.identity.exchange
    if exchange is None:
        return None, "not configured"
    source = make_exchange(config.issuers[exchange.issuer], exchange)
    exchange_request = read_request(need.payload)
    wanted = f"for {', '.join(exchange_request.audiences)}, with scope {exchange_request.scope or '(none)'}"
    try:
        fact = source(need)
    except SourceError as error:
        return None, f"asked {printable(wanted)}: {error.result}: {printable(str(error))}"
    finally:
        source.close()
    return fact.value, f"asked {printable(wanted)}: {fact.result}; a running sidecar keeps this for {fact.ttl:.0f} s"


def with_placeholder_key(snapshot: Snapshot, config: Config) -> Snapshot:
    """Return *snapshot* with a placeholder key, if tokens for the upstream are minted: nothing is signed here."""
    if snapshot.minting is None or snapshot.minting.key is not None:
        return snapshot
    key = SigningKey("not-signed-here", config.signing.generated_algorithm)
    return replace(snapshot, minting=replace(snapshot.minting, key=key))


def answer_minted(need: Need, at: float) -> tuple[Minted | None, str]:
    """Return a placeholder token, and the claims that a running sidecar would sign."""
    if not need.payload:
        return None, "not signed here"
    wanted = read_signing_request(need.payload)
    ends = at + wanted.terms.lifetime
    if wanted.not_after is not None:
        ends = min(ends, wanted.not_after)
    claims = printable(json.dumps({**wanted.claims, "exp": int(ends)}))
    answer = f"{wanted.terms.jose_header['typ']} for the upstream, not signed here: {claims}"
    return Minted("not-signed-here", "", ends), answer


def fetch_list(need: Need, config: Config) -> tuple[object, str]:
    """Fetch a status list; return it, or None, and the result in words."""
    try:
        fact = make_status_list_source(config.issuers[need.source])(need)
    except SourceError as error:
        return None, f"{error.result}: {printable(str(error))}"
    return fact.value, "fetched; a running sidecar fetches it again in the background"


def ask_risk(need: Need, config: Config) -> tuple[object, str]:
    """Ask the risk engine; return the fact, or why there is none, and the result in words."""
    if config.risk is None:
        return None, "not configured"
    return _ask_service(make_risk(config.risk), need, lambda fact: str(fact.value))


def _ask_service(source: JsonSource, need: Need, describe: Callable[[Fact], str]) -> tuple[object, str]:
    try:
        fact = source(need)
    except SourceError as error:
        return Unanswered(str(error), error.absent), f"{error.result}: {printable(str(error))}"
    finally:
        source.close()
    caching = f"keeps this answer for {fact.ttl:.0f} s" if fact.ttl else "asks each time (cache: 0s)"
    return fact.value, f"{describe(fact)}; a running sidecar {caching}"


def answer_client() -> tuple[ClientHistory, str]:
    """Return what is known of a client, and why: only a running sidecar counts failures."""
    return ClientHistory(), "taken as a client without failures from a known network; a running sidecar counts its own"


def answer_proof() -> tuple[ProofUse, str]:
    """Return the fact about a proof, and why: an explanation does not record that the proof is used."""
    return ProofUse.FIRST, "taken as used for the first time; a running sidecar accepts it once"
