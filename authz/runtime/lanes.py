"""The lanes of one process that answer the needs of decisions, except for keys; they follow the configuration."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Final

from authz.config.dpop import Dpop
from authz.config.model import Config, Server
from authz.core.minting import MINTED
from authz.core.needs import PROOF
from authz.core.snapshot import Snapshot
from authz.envoy.gathering import Lane
from authz.envoy.transport.choice import Choice
from authz.facts.clients import ClientMemory
from authz.facts.loop import Loop
from authz.facts.proofs import ProofLane, ProofMemory
from authz.feeds.fact_lanes import FactLanes
from authz.feeds.shared.proofs import SOURCE, SharedProofLane, make_proof_source_lane
from authz.feeds.shared.state import SharedState
from authz.feeds.status_lists import StatusListLanes
from authz.signing.lanes import TokenLanes
from authz.telemetry.facts import FactMetrics

_LANE_SHARE: Final = 4  # a quarter of the calls in flight may wait for one kind of fact


class ProcessLanes:
    """The lanes of one process, by kind of need; those to other systems begin with the first configuration."""

    def __init__(
        self, config: Config, transport: Choice, metrics: FactMetrics, *, shared: SharedState | None, loop: Loop
    ) -> None:
        """*shared* is what replicas share; lanes to other systems ask on the thread of *loop*."""
        self.max_waiting: Final = max_waiting(config.server, transport)
        self._facts: Final = FactLanes(metrics, max_waiting=self.max_waiting, loop=loop)
        self._status_lists: Final = StatusListLanes(metrics, max_waiting=self.max_waiting)
        self.clients: Final = ClientMemory(
            max_networks=config.clients.max_networks,
            max_subjects=config.clients.max_subjects,
            max_accepted=config.clients.max_accepted,
            monotonic=time.monotonic,
        )
        self.tokens: Final = TokenLanes(metrics, max_waiting=self.max_waiting)
        self.by_kind: Final[Mapping[str, Lane]] = {
            **self._facts.by_kind(),
            **self._status_lists.by_kind(),
            **self.clients.lanes(),
            PROOF: _make_proof_lane(config, metrics, shared, max_waiting=self.max_waiting),
            MINTED: self.tokens.lane,
        }

    def reconfigure(self, config: Config, snapshot: Snapshot) -> None:
        """Use lanes to the systems of *config*, before the *snapshot* that needs them is used."""
        self._facts.reconfigure(config)
        self._status_lists.reconfigure(config)
        self.clients.reconfigure(snapshot.clients)
        if config.identity.minted is not None:
            self.tokens.max_cached = config.identity.minted.max_cached

    def close(self) -> None:
        """End all lanes."""
        self._facts.close()
        self._status_lists.close()
        self.tokens.close()


def max_waiting(server: Server, transport: Choice) -> int:
    """Return how many checks may wait for one kind of fact: a quarter of those that can be in flight."""
    in_flight = server.max_concurrent
    if transport.max_deferred is not None:
        in_flight = min(in_flight, transport.max_deferred)
    return max(1, in_flight // _LANE_SHARE)


def _make_proof_lane(config: Config, metrics: FactMetrics, state: SharedState | None, *, max_waiting: int) -> Lane:
    """Return the lane for used proofs: in the shared *state*, or in the memory of this process."""
    memory = _make_proof_memory(config.dpop)
    if config.shared_state is None or state is None:
        return ProofLane(memory)
    return SharedProofLane(
        make_proof_source_lane(
            state,
            timeout=config.shared_state.timeout.total_seconds(),
            max_waiting=max_waiting,
            observer=metrics.for_source(PROOF, SOURCE),
        ),
        used=memory,
        falls_back=config.insecure.dpop_without_shared_state,
        count_local=metrics.tally(PROOF, SOURCE, "local").add,
    )


def _make_proof_memory(section: Dpop) -> ProofMemory:
    """Return the memory of used proofs of this process."""
    return ProofMemory(
        max_proofs=section.max_proofs, now=time.time, monotonic=time.monotonic, secret=secrets.token_bytes(32)
    )
