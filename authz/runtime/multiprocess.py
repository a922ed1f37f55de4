"""The composition root of several workers: their supervisor, and the admin server for all of them."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from prometheus_client import CollectorRegistry

from authz import __version__
from authz.admin.routes import make_routes
from authz.admin.server import AdminServer
from authz.admin.signing import make_signing_routes
from authz.config.address import parse_tcp_address, worker_addresses
from authz.config.model import Admin, Config, Server
from authz.core.implementation import IMPLEMENTATION
from authz.files.watch import FileWatch
from authz.runtime.console import console_routes, revocation_routes
from authz.runtime.fork_server import ForkedWorker, ForkServer, Request
from authz.runtime.handover import Handover, LastGood, Source
from authz.runtime.pod_insight import PodInsight
from authz.runtime.receiving import PodReceiver, make_receiver, start_receiver
from authz.runtime.reload import ReloadLoop
from authz.runtime.revoking import PodRevocations
from authz.runtime.signals import RELOAD
from authz.runtime.signing import PodSigning
from authz.runtime.stale_sockets import clear_sockets, private_folder
from authz.runtime.supervisor import NextSignal, Supervisor
from authz.runtime.worker_sockets import LivenessProbe
from authz.runtime.workers import Workers

log = logging.getLogger(__name__)


def supervise(
    file: Path,
    config: Config,
    source: Source,
    watch: FileWatch,
    next_signal: NextSignal,
    *,
    fork_server: ForkServer | None = None,
) -> int:
    """Run the configured number of workers; return the exit status of `Supervisor.run`.

    *config* was loaded from *source*, the content of *file*. *fork_server* may run already; it is closed at the end.
    Raises OSError if the admin address cannot be bound, or if no process can be started.
    """
    addresses = worker_addresses(config.server.listen, config.server.workers)
    last_good = LastGood(file, watch, source)
    reload = ReloadLoop(watch, on_change=last_good.update, on_removed=lambda: None, stopping=Event())
    with ExitStack() as parts:
        folder = parts.enter_context(private_folder(config.server.listen))
        sockets = [folder / f"{number}.sock" for number in range(len(addresses))]
        lifeline = _open_lifeline(parts)
        if fork_server is None:
            fork_server = ForkServer()
        parts.callback(fork_server.close)
        probe = LivenessProbe(sockets)
        parts.callback(probe.close)
        launcher = _Launcher(
            file=file,
            server=config.server,
            fork_server=fork_server,
            addresses=addresses,
            sockets=sockets,
            lifeline=lifeline,
            last_good=last_good,
            forget=probe.forget,
        )
        supervisor = Supervisor(
            len(addresses),
            start=launcher.start,
            drain=config.server.drain.total_seconds(),
            monotonic=time.monotonic,
            jitter=random.random,
        )
        workers = Workers(sockets, restarts=supervisor.restarts)
        admin = _make_admin(config.admin, workers)
        parts.callback(admin.stop)
        receiver = make_receiver(config.receivers, PodReceiver(workers))
        if receiver is not None:
            parts.callback(receiver.stop)
        clear_sockets(config.server.listen, config.server.workers)

        def start_admin() -> None:
            admin.start()
            start_receiver(receiver)
            version = f"{__version__} ({IMPLEMENTATION})"
            log.info("authz %s runs %d workers, admin on %s", version, len(addresses), admin.address)

        Thread(target=reload.run, name="reload", daemon=True).start()
        return supervisor.run(_note_reload(next_signal, reload), answered=probe.answered, started=start_admin)


def _note_reload(next_signal: NextSignal, reload: ReloadLoop) -> NextSignal:
    """Return *next_signal*, with which RELOAD also requests a reload."""

    def next_noted(seconds: float) -> int | None:
        number = next_signal(seconds)
        if number == RELOAD:
            reload.request()
        return number

    return next_noted


def _open_lifeline(parts: ExitStack) -> int:
    """Open the pipe by whose end workers learn that the supervisor has ended; return its read end, for them."""
    ends = os.pipe()
    for end in ends:
        parts.callback(os.close, end)
    return ends[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Launcher:
    """Starts workers with the supervisor's own code, its `server` section and the last good configuration."""

    file: Path
    server: Server
    fork_server: ForkServer
    addresses: Sequence[str]
    sockets: Sequence[Path]
    lifeline: int  # the read end of the pipe that tells workers that the supervisor is alive
    last_good: LastGood
    forget: Callable[[int], None]  # called with the worker's number before it is started

    def start(self, number: int) -> ForkedWorker:
        """Start the worker with this number. Raises OSError."""
        request = Request(
            number=number,
            file=str(self.file),
            listen=self.addresses[number],
            admin_socket=str(self.sockets[number]),
            environment={name: value for name, value in os.environ.items() if name.startswith("GRPC_")},
        )
        self.forget(number)
        handover = Handover(self.last_good.source, self.server).to_descriptor()
        try:
            return self.fork_server.start(request, lifeline=self.lifeline, handover=handover)
        finally:
            os.close(handover)


def _make_admin(section: Admin, workers: Workers) -> AdminServer:
    registry = CollectorRegistry()
    registry.register(workers)
    routes = make_routes(
        waiting_for=workers.waiting_for,
        registry=registry,
        keys=workers.describe_keys,
        refresh=workers.refresh_keys,
    )
    routes = {**routes, **revocation_routes(PodRevocations(workers), section.console)}
    routes = {**routes, **make_signing_routes(PodSigning(workers))}
    if section.console.enabled:
        routes = {**routes, **console_routes(PodInsight(workers), section.console)}
    return AdminServer(parse_tcp_address(section.listen), routes)
