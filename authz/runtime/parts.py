"""The parts of one process that need others to be built: how they are wired, and nothing else."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from authz.config.address import Address, UnixAddress
from authz.config.model import Server
from authz.envoy.check import Checker
from authz.envoy.service import AuthorizationServer
from authz.feeds.issuers import IssuerFeeds
from authz.feeds.jwks import Runtime
from authz.feeds.scheduler import Scheduler
from authz.feeds.store import Store
from authz.feeds.usage import Usage
from authz.telemetry.judged import Judged
from authz.telemetry.keys import KeyMetrics, Refresh
from authz.telemetry.metrics import Metrics

_MAX_IDLE: Final = 300.0  # seconds; on TCP any peer may leave connections idle, and their number is bounded


def make_feeds(
    *,
    store: Store,
    scheduler: Scheduler,
    usage: Usage,
    metrics: Metrics,
    on_refresh: Callable[[str, Refresh, float], None],
) -> IssuerFeeds:
    """Return the feeds of all issuers; *on_refresh* is called with the issuer, the result and the seconds it took."""
    return IssuerFeeds(
        store=store,
        scheduler=scheduler,
        runtime=Runtime(
            monotonic=time.monotonic,
            now=time.time,
            jitter=random.random,
            fly=scheduler.fly,
            tell=on_refresh,
        ),
        usage=usage,
        metrics=KeyMetrics(metrics.registry),
    )


def make_server(
    server: Server,
    address: Address,
    *,
    store: Store,
    scheduler: Scheduler,
    metrics: Metrics,
    report: Callable[[Judged], None],
) -> AuthorizationServer:
    """Return the server that Envoy calls, not bound yet; *report* is called with every decision."""
    # Reading the system's own generator costs each call a wait for the interpreter. Clients see these numbers: nothing
    # else is drawn from this generator.
    ids = random.Random()  # noqa: S311 - to tell decisions apart, not to keep a secret
    checker = Checker(
        snapshot=store.current,
        feeds=scheduler,
        report=report,
        now=time.time,
        elapsed=time.monotonic,
        new_id=lambda: f"{ids.getrandbits(64):016x}",
        max_waiters=server.threads - 1,
    )
    made = AuthorizationServer(
        checker,
        threads=server.threads,
        max_concurrent=server.max_concurrent,
        max_idle=None if isinstance(address, UnixAddress) else _MAX_IDLE,
        given_up=metrics.count_cancelled,
    )
    metrics.watch_in_flight(made.in_flight)
    return made
