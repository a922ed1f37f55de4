"""Build the parts of one process and connect them. There is no logic in this file."""

from __future__ import annotations

import hmac
import random
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from authz.config.address import Address, UnixAddress
from authz.config.model import Config, Server
from authz.core.snapshot import Snapshot
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer
from authz.envoy.server import AuthorizationServer
from authz.envoy.transport.choice import Choice
from authz.facts.loop import Loop
from authz.feeds.key_lane import KeyLane, make_key_lanes
from authz.feeds.key_usage import KeyUsage
from authz.feeds.logouts import LogoutReceiver
from authz.feeds.ports import FeedEnv
from authz.feeds.registry import Registry
from authz.feeds.revocation_events import EventSharing
from authz.feeds.revocation_records import HmacSeal
from authz.feeds.revocation_sharing import BLOCK_SECONDS, SharedRevocations
from authz.feeds.revocations import Revocations
from authz.feeds.scheduler import Scheduler
from authz.feeds.shared.connect import open_shared_state
from authz.feeds.shared.event_log import EventLog
from authz.feeds.shared.signing import SharedStore
from authz.feeds.shared.state import SharedState
from authz.feeds.snapshot_store import SnapshotStore
from authz.feeds.transmitters import Transmitters
from authz.runtime.lanes import ProcessLanes
from authz.signing.keyring import Keyring, KeyringView, make_local_store
from authz.signing.state import StateError, StateStore
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.keys import KeyMetrics, Refresh
from authz.telemetry.metrics import Metrics
from authz.telemetry.revocations import RevocationMetrics

_MIN_SECRET: Final = 32  # octets
_NONCES: Final = b"authz nonces of proofs\n"  # what a secret with another purpose is used for here
_MAX_IDLE: Final = 300.0  # seconds; on TCP any peer may keep idle connections open, up to the limit for all


def make_feeds(
    *,
    store: SnapshotStore,
    scheduler: Scheduler,
    usage: KeyUsage,
    metrics: Metrics,
    evict: Callable[[Snapshot], None],
    on_refresh: Callable[[str, Refresh, float], None],
) -> Registry:
    """Return the feeds of all issuers.

    *evict* is called with the snapshot after keys changed, *on_refresh* with the issuer, the result and the duration of
    each refresh, in seconds.
    """
    return Registry(
        store=store,
        env=FeedEnv(
            monotonic=time.monotonic,
            now=time.time,
            jitter=random.random,
            spawn=scheduler.spawn,
            wake=scheduler.wake,
            on_refresh=on_refresh,
        ),
        usage=usage,
        metrics=KeyMetrics(metrics.registry),
        evict=evict,
    )


def make_revocations(
    config: Config,
    state: SharedState | None,
    *,
    store: SnapshotStore,
    scheduler: Scheduler,
    metrics: Metrics,
    admin: Address | None,
) -> Revocations:
    """Return the sources of revocations, with past events. Workers, whose *admin* is a socket, share a file beside it.

    Replicas share events in *state*. Raises OSError, SharedStateError.
    """
    env = FeedEnv(
        monotonic=time.monotonic, now=time.time, jitter=random.random, spawn=scheduler.spawn, wake=scheduler.wake
    )
    shared = Path(admin.path).with_name("revocations") if isinstance(admin, UnixAddress) else None
    return Revocations(
        config,
        store=store,
        env=env,
        metrics=RevocationMetrics(metrics.registry),
        shared=shared,
        replicas=_share_revocations(
            config, state, env, saves=not isinstance(admin, UnixAddress) or admin.path.endswith("/0.sock")
        ),
    )


def _share_revocations(config: Config, state: SharedState | None, env: FeedEnv, *, saves: bool) -> EventSharing | None:
    """Return how replicas share revocations, None without a shared *state*. Raises OSError, SharedStateError."""
    if config.shared_state is None or state is None:
        return None
    log = EventLog(
        "revocations",
        reader=open_shared_state(config.shared_state, blocks_for=BLOCK_SECONDS),
        writer=state,
        now=time.time,
    )
    secret = config.revocation.shared.secret_file
    seal = None if secret is None else HmacSeal(_read_secret("revocation.shared.secret_file", secret))
    return EventSharing(sharing=SharedRevocations(log, env=env), seal=seal, saves=saves)


def make_logout_receiver(store: SnapshotStore, feeds: Registry, revocations: Revocations) -> LogoutReceiver:
    """Return the receiver of logout tokens."""
    lane = KeyLane(feeds.feeds, max_waiting=0)
    return LogoutReceiver(
        revocations.events, snapshot=store.current, lane=lane, metrics=revocations.metrics, now=time.time
    )


def make_transmitters(
    store: SnapshotStore, scheduler: Scheduler, feeds: Registry, revocations: Revocations
) -> Transmitters:
    """Return the transmitters, whose security events are received and polled."""
    env = FeedEnv(
        monotonic=time.monotonic, now=time.time, jitter=random.random, spawn=scheduler.spawn, wake=scheduler.wake
    )
    return Transmitters(
        revocations.events,
        snapshot=store.current,
        env=env,
        metrics=revocations.metrics,
        key_metrics=feeds.metrics,
    )


def make_gatherer(feeds: Registry, lanes: ProcessLanes, loop: Loop) -> Gatherer:
    """Return the gatherer of facts for checks: keys, and what *lanes* answer. Its thread is that of *loop*."""
    keys = make_key_lanes(feeds.feeds, max_waiting=lanes.max_waiting)
    return Gatherer({**keys, **lanes.by_kind}, monotonic=time.monotonic, loop=loop)


def make_shared_state(config: Config) -> SharedState | None:
    """Return a client of the shared state, None if there is none. Raises SharedStateError."""
    return None if config.shared_state is None else open_shared_state(config.shared_state)


def make_keyring(publish: Callable[[KeyringView], None], shared: SharedState | None) -> Keyring:
    """Return the keys that sign tokens for the upstream; *publish* is called with each new view."""
    make_store = partial(make_key_store, shared)
    return Keyring(publish, now=time.time, monotonic=time.monotonic, make_store=make_store)


def make_key_store(shared: SharedState | None, config: Config) -> StateStore:
    """Return the store of generated signing keys. Raises StateError."""
    secret_file = config.signing.rotation.shared_secret_file
    if secret_file is None:
        return make_local_store(config)
    if shared is None:
        raise StateError("signing.rotation.shared_secret_file: shared_state was added, which needs a restart")
    return SharedStore(shared, Path(secret_file))


def read_nonce_secret(config: Config) -> bytes:
    """Return the secret of nonces: from its file, of what replicas share already, or a new one. Raises OSError."""
    if config.dpop.nonce_secret_file is not None:
        return _read_secret("dpop.nonce_secret_file", config.dpop.nonce_secret_file)
    if (shared := config.revocation.shared.secret_file) is not None:
        return hmac.digest(_read_secret("revocation.shared.secret_file", shared), _NONCES, "sha256")
    return secrets.token_bytes(_MIN_SECRET)


def _read_secret(key: str, file: str) -> bytes:
    """Return the secret in the *file* that is configured as *key*. Raises OSError."""
    try:
        secret = Path(file).read_bytes()
    except OSError as error:
        raise OSError(f"{key} {file}: {error.strerror}") from error
    if len(secret) < _MIN_SECRET:
        raise OSError(f"{key} {file}: has less than {_MIN_SECRET} octets")
    return secret


def make_server(
    server: Server,
    address: Address,
    *,
    transport: Choice,
    store: SnapshotStore,
    gatherer: Gatherer,
    metrics: Metrics,
    report: Callable[[CheckRecord], None],
) -> AuthorizationServer:
    """Return the server that Envoy calls, not bound yet; *report* is called with every decision."""
    # The system's random generator would release the interpreter lock in each call, which is slow. Clients see these
    # numbers: this generator must not be used for anything else.
    ids = random.Random()  # noqa: S311 - identifiers of decisions, not secrets
    checker = Checker(
        snapshot=store.current,
        gatherer=gatherer,
        report=report,
        now=time.time,
        elapsed=time.monotonic,
        new_id=lambda: f"{ids.getrandbits(64):016x}",
    )
    metrics.show_transport(transport.name)
    authorization_server = AuthorizationServer(
        checker,
        transport=transport.make,
        max_concurrent=server.max_concurrent,
        max_idle=None if isinstance(address, UnixAddress) else _MAX_IDLE,
        on_abandoned=metrics.count_cancelled,
    )
    metrics.watch_in_flight(authorization_server.in_flight)
    return authorization_server
