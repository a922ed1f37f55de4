"""What a decision lacked, and what answered it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from authz.config.model import Config
from authz.core.dpop import ProofUse
from authz.core.exchange import read_request
from authz.core.minting import Minted, SigningKey, read_order
from authz.core.needs import Need
from authz.core.snapshot import Snapshot
from authz.facts.lane import SourceError
from authz.feeds.exchange_lane import make_exchange
from authz.feeds.fact_lanes import make_introspection
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


def ask_exchange(need: Need, config: Config) -> tuple[object, str]:
    """Exchange the token of *need*; return the fact, or None, and what came of it in words, without the token."""
    exchange = config.identity.exchange
    if exchange is None:
        return None, "not configured"
    source = make_exchange(config.issuers[exchange.issuer], exchange)
    asked = read_request(need.sent)
    wanted = f"for {', '.join(asked.audiences)}, with scope {asked.scope or '(none)'}"
    try:
        fact = source(need)
    except SourceError as error:
        return None, f"asked {printable(wanted)}: {error.result}: {printable(str(error))}"
    finally:
        source.close()
    return fact.value, f"asked {printable(wanted)}: {fact.result}; a running sidecar keeps this for {fact.keep:.0f} s"


def with_key(snapshot: Snapshot, config: Config) -> Snapshot:
    """Return *snapshot* with a key in name only, if tokens for the upstream are minted: nothing is signed here."""
    if snapshot.minting is None or snapshot.minting.key is not None:
        return snapshot
    key = SigningKey("not-signed-here", config.signing.generated_algorithm)
    return replace(snapshot, minting=replace(snapshot.minting, key=key))


def answer_minted(need: Need, at: float) -> tuple[Minted | None, str]:
    """Return a token in name only, and the claims that a running sidecar would sign."""
    if not need.sent:
        return None, "not signed here"
    order = read_order(need.sent)
    ends = at + order.lifetime if order.until is None else min(at + order.lifetime, order.until)
    claims = printable(json.dumps({**order.claims, "exp": int(ends)}))
    return Minted("not-signed-here", "", ends), f"{order.head['typ']} for the upstream, not signed here: {claims}"


def answer_proof() -> tuple[ProofUse, str]:
    """Return the fact about a proof, and how it came about: nothing is remembered by a look at a decision."""
    return ProofUse.FIRST, "taken as used for the first time; a running sidecar accepts it once"
