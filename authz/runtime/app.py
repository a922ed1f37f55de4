"""The composition root of one process: build the parts, start them, and stop them in order."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Final

from authz import __version__
from authz.admin.receivers import make_worker_routes
from authz.admin.routes import Route, make_routes
from authz.admin.server import AdminServer
from authz.admin.signing import make_signing_routes
from authz.config.address import Address, parse_tcp_address
from authz.config.model import Config, Console
from authz.core.decision import Decision
from authz.core.implementation import IMPLEMENTATION
from authz.core.snapshot import Snapshot
from authz.envoy.transport.choice import choose_transport
from authz.facts.loop import Loop
from authz.feeds.key_report import describe_keys
from authz.feeds.scheduler import Scheduler, Steppable
from authz.feeds.snapshot_store import SnapshotStore
from authz.files.watch import FileWatch
from authz.runtime.active_config import ActiveConfig
from authz.runtime.console import console_routes, revocation_routes
from authz.runtime.insight import Insight, Parts
from authz.runtime.lanes import ProcessLanes
from authz.runtime.listening import listen as bind
from authz.runtime.loaded import Loaded
from authz.runtime.parts import (
    make_feeds,
    make_gatherer,
    make_keyring,
    make_logout_receiver,
    make_revocations,
    make_server,
    make_shared_state,
    make_transmitters,
    read_nonce_secret,
)
from authz.runtime.readiness import Readiness
from authz.runtime.receiving import ProcessReceiver, make_receiver, start_receiver
from authz.runtime.reload import ReloadLoop
from authz.runtime.revoking import ProcessRevocations
from authz.runtime.signing import ProcessSigning, forbid_core_dumps
from authz.runtime.snapshots import SnapshotBuilder
from authz.runtime.telemetry import ProcessTelemetry
from authz.signing.keyring import KeyringView
from authz.telemetry.clients import ClientMetrics
from authz.telemetry.facts import FactMetrics
from authz.telemetry.keys import Refresh
from authz.telemetry.report import reporter
from authz.telemetry.signing import SigningMetrics
from authz.telemetry.traces import start_spans

log = logging.getLogger(__name__)

# Seconds to keep answering after health reports NOT_SERVING: Envoy checks once a second, and its workers get the result
# up to a second later (`update_merge_window`). With 1.0, every second restart lost requests.
_LAME_DUCK: Final = 3.0


class App:
    """One process of the sidecar, on the configuration in *file*."""

    def __init__(
        self,
        file: Path,
        loaded: Loaded,
        *,
        watch: FileWatch,
        listen: Address,
        admin: Address | None = None,
    ) -> None:
        """Build everything; only the admin address is bound.

        Raises OSError if it cannot be, ExportError, and SharedStateError.

        *watch* was created before *loaded* was read from *file*. *listen* is the address that Envoy calls; *admin*, if
        given, replaces the configured admin address (for workers).
        """
        config = loaded.config
        self._server_section: Final = config.server
        self._address: Final = listen
        self._telemetry: Final = ProcessTelemetry(config)
        metrics = self._telemetry.metrics
        self._snapshots: Final = SnapshotBuilder(nonce_secret=read_nonce_secret(config))
        store = self._store = SnapshotStore(self._snapshots.build(config))
        scheduler = self._scheduler = Scheduler(monotonic=time.monotonic)
        self._feeds: Final = make_feeds(
            store=store,
            scheduler=scheduler,
            usage=self._snapshots.usage,
            metrics=metrics,
            evict=self._snapshots.evict_removed_keys,
            on_refresh=self._report_refresh,
        )
        self._shared: Final = make_shared_state(config)
        self._revocations: Final = make_revocations(
            config, self._shared, store=store, scheduler=scheduler, metrics=metrics, admin=admin
        )
        self._transmitters: Final = make_transmitters(store, scheduler, self._feeds, self._revocations)
        transport, loop = choose_transport(config.server.transport), Loop(time.monotonic)
        self._lanes: Final = ProcessLanes(
            config, transport, FactMetrics(metrics.registry), shared=self._shared, loop=loop
        )
        self._client_metrics: Final = ClientMetrics(metrics.registry, throttled=self._lanes.clients.count_throttled)
        self._keyring: Final = make_keyring(self._show_signing, self._shared)
        self._gatherer: Final = make_gatherer(self._feeds, self._lanes, loop)
        self._readiness: Final = Readiness(missing=self._missing_keys, show=self._show_ready)
        receiver = ProcessReceiver(make_logout_receiver(store, self._feeds, self._revocations), self._transmitters)
        self._receiver: Final = make_receiver(config.receivers, receiver) if admin is None else None
        routes = self._make_routes(config.admin.console)
        if admin is not None:  # a worker: its supervisor receives for it
            routes |= make_worker_routes(receiver.receive)
        self._admin: Final = AdminServer(admin or parse_tcp_address(config.admin.listen), routes)
        self._spans: Final = start_spans(
            config.telemetry.traces.exporter, keys_age=self._feeds.keys_age, dropped=metrics.count_dropped_spans
        )
        self._active: Final = self._make_active_config(file, loaded)
        self._reload: Final = ReloadLoop(
            watch,
            on_change=self._active.reload,
            on_removed=self._active.report_removed,
            stopping=self._readiness.draining,
        )
        self._server: Final = make_server(
            config.server,
            listen,
            transport=transport,
            store=store,
            gatherer=self._gatherer,
            metrics=metrics,
            report=self._active.report,
        )

    def _make_routes(self, console: Console) -> dict[str, Route]:
        """Return the routes of the admin port."""
        telemetry, feeds, snapshot = self._telemetry, self._feeds, self._store.current
        metrics, usage, waiting_for = telemetry.metrics, self._snapshots.usage, self._readiness.waiting_for
        signing = ProcessSigning(self._keyring)
        SigningMetrics(metrics.registry, signing.facts)
        routes = {
            **make_routes(
                waiting_for=waiting_for,
                registry=metrics.registry,
                keys=lambda: describe_keys(snapshot(), feeds.feeds(), usage),
                refresh=self._refresh,
            ),
            **revocation_routes(ProcessRevocations(self._revocations), console),
            **make_signing_routes(signing),
        }
        if telemetry.recent is None or telemetry.last_hour is None:
            return routes
        parts = Parts(
            active=lambda: self._active,
            snapshot=snapshot,
            feeds=feeds,
            revocations=self._revocations.count,
            sharing=self._revocations.describe_sharing,
            usage=usage,
            metrics=metrics,
            decision_log=telemetry.decisions,
            clients=self._lanes.clients,
            recent=telemetry.recent,
            last_hour=telemetry.last_hour,
            waiting_for=waiting_for,
            now=time.time,
        )
        return {**routes, **console_routes(Insight(parts), console)}

    def _make_active_config(self, file: Path, loaded: Loaded) -> ActiveConfig:
        telemetry = self._telemetry
        return ActiveConfig(
            file,
            loaded,
            self._store.current(),
            prepare=partial(self._snapshots.load, file),
            reconfigure=self._reconfigure,
            metrics=telemetry.metrics,
            make_report=lambda reporting: reporter(
                telemetry.metrics,
                telemetry.decisions,
                reporting,
                spans=self._spans,
                random=random.random,
                recent=telemetry.recent,
                note_client=self._note_client,
            ),
        )

    def start(self) -> None:
        """Bind and serve, but do not report ready yet. Raises OSError if an address cannot be bound."""
        address = bind(self._server, self._address, self._server_section)
        self._scheduler.start(self._feeds_to_step)
        self._revocations.start()
        self._keyring.start()
        self._gatherer.start()
        self._server.start()
        self._admin.start()
        start_receiver(self._receiver)
        Thread(target=self._reload.run, name="reload", daemon=True).start()
        self._telemetry.start(self._names_clients, self._readiness.draining)
        log.info("authz %s (%s) serves on %s, admin on %s", __version__, IMPLEMENTATION, address, self._admin.address)
        self._active.warn()

    def become_ready(self) -> None:
        """Report ready as soon as the keys of every required issuer are available, on a separate thread."""
        Thread(target=self._become_ready, name="become-ready", daemon=True).start()

    def reload(self) -> None:
        """Request a reload of the configuration, on the reload thread, and start to fetch all keys."""
        self._reload.request()
        self._feeds.refresh()

    def drain(self) -> None:
        """Report not ready, answer until Envoy has detected that, let calls in flight finish, and stop."""
        was_ready = self._readiness.drain()
        drain = self._server_section.drain.total_seconds()
        lame_duck = min(_LAME_DUCK, drain / 2) if was_ready else 0.0  # otherwise Envoy never used this process
        log.info("draining for at most %g s", drain)
        time.sleep(lame_duck)
        self._server.stop(grace=drain - lame_duck)
        self._gatherer.stop()
        self._lanes.close()
        self._keyring.stop()
        self._revocations.stop()
        if self._shared is not None:
            self._shared.close()
        self._transmitters.close()
        self._scheduler.stop()
        if self._receiver is not None:
            self._receiver.stop()
        self._telemetry.decisions.summarise(name_clients=self._names_clients())
        if self._spans is not None:
            self._spans.stop()
        self._telemetry.stop()
        self._admin.stop()
        log.info("stopped")

    def _feeds_to_step(self) -> list[Steppable]:
        parts = (self._feeds, self._revocations, self._transmitters)
        return [feed for part in parts for feed in part.feeds_to_step()]

    def _reconfigure(self, config: Config, snapshot: Snapshot) -> None:
        self._lanes.reconfigure(config, snapshot)
        self._revocations.reconfigure(config)
        self._transmitters.reconfigure(config)
        if config.identity.minted is None:
            self._feeds.apply(config, snapshot)
            self._keyring.reconfigure(config)  # after the last snapshot that needs a key
            return
        forbid_core_dumps()
        self._keyring.reconfigure(config)
        self._feeds.apply(config, snapshot)

    def _note_client(self, decision: Decision) -> None:
        self._lanes.clients.record_decision(decision)
        self._client_metrics.count(decision)

    def _show_signing(self, view: KeyringView) -> None:
        """Use the keys of *view*; the previous keys can sign until the snapshot has changed."""
        self._lanes.tokens.add(view)
        self._store.set_signing(view.key, view.published)
        self._lanes.tokens.use(view)

    def _refresh(self, name: str | None) -> Mapping[str, object] | None:
        issuers = self._feeds.refresh(name)
        return None if issuers is None else {"issuers": issuers}

    def _report_refresh(self, issuer: str, result: Refresh, seconds: float) -> None:
        section = self._active.config.issuers.get(issuer)
        if section is None or section.jwks_file is not None:  # a file is read every second
            return
        self._telemetry.metrics.observe_refresh(issuer, seconds)
        if self._spans is not None:
            self._spans.write_refresh(issuer, result, seconds)

    def _names_clients(self) -> bool:
        return self._active.names_clients

    def _missing_keys(self) -> list[str]:
        lists = [f"revocations of {name}" for name in self._revocations.waiting_for()]
        unsigned = ["a signing key"] if self._keyring.enabled and self._keyring.view.key is None else []
        return [*(f"keys of {name}" for name in self._feeds.waiting_for()), *lists, *unsigned]

    def _show_ready(self, ready: bool) -> None:  # noqa: FBT001 - a callback
        self._server.show_ready(ready=ready)

    def _become_ready(self) -> None:
        if self._readiness.await_ready():
            log.info("ready")
