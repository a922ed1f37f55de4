"""The composition root of one process: build the parts, start them, and stop them in order."""

from __future__ import annotations

import gc
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from authz import __version__
from authz.admin.receivers import make_worker_routes
from authz.admin.routes import make_routes
from authz.admin.server import AdminServer
from authz.admin.signing import make_routes_of_signing
from authz.config.address import Address, parse_tcp_address
from authz.config.build import build_snapshot
from authz.config.model import Config
from authz.config.telemetry import OtlpExporter
from authz.core.decision import Decision
from authz.core.implementation import IMPLEMENTATION
from authz.core.minting import MINTED
from authz.core.needs import PROOF
from authz.core.snapshot import Snapshot
from authz.envoy.gathering import Lane
from authz.envoy.transport.choice import choose_transport
from authz.facts.loop import Loop
from authz.feeds.key_report import describe_keys
from authz.feeds.key_usage import KeyUsage
from authz.feeds.scheduler import Scheduler, Steppable
from authz.feeds.signature_cache import SignatureCache
from authz.feeds.snapshot_store import SnapshotStore
from authz.feeds.token_cache import TokenCache
from authz.files.watch import FileWatch
from authz.runtime.active_config import ActiveConfig
from authz.runtime.console import make_routes_of_console, make_routes_of_revocations
from authz.runtime.insight import Insight, Parts
from authz.runtime.listening import listen as bind
from authz.runtime.loaded import Loaded
from authz.runtime.loading import load
from authz.runtime.parts import (
    make_client_memory,
    make_fact_lanes,
    make_feeds,
    make_gatherer,
    make_key_store,
    make_logout_receiver,
    make_proof_lane,
    make_revocations,
    make_server,
    make_shared_state,
    make_status_lists,
    make_token_lanes,
    make_transmitters,
    read_nonce_secret,
)
from authz.runtime.readiness import Readiness
from authz.runtime.receiving import ProcessReceiver, make_receiver
from authz.runtime.reload import ReloadLoop
from authz.runtime.revoking import ProcessRevocations
from authz.runtime.signing import ProcessSigning, forbid_core_dumps
from authz.signing.keyring import Keyring, KeyringView
from authz.telemetry.clients import ClientMetrics
from authz.telemetry.decisions import PERIOD, DecisionLog
from authz.telemetry.facts import FactMetrics
from authz.telemetry.keys import Refresh
from authz.telemetry.last_hour import LastHour
from authz.telemetry.metrics import Metrics
from authz.telemetry.otlp import is_disabled
from authz.telemetry.recent import RecentDecisions
from authz.telemetry.report import reporter
from authz.telemetry.signing import SigningMetrics
from authz.telemetry.traces import start_spans

if TYPE_CHECKING:
    from authz.telemetry.audit_export import AuditExport
    from authz.telemetry.metrics_export import MetricsExport

log = logging.getLogger(__name__)

# Seconds to keep answering after health reports NOT_SERVING: Envoy checks once a second, and its workers get the result
# up to a second later (`update_merge_window`). With 1.0, every second restart lost requests.
_LAME_DUCK: Final = 3.0
_MANY_RULES: Final = 1_000  # a collection among them stops all threads for 2 ms
_PAUSE: Final = 0.0001  # seconds, some thousand times in a reload of ten thousand rules


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
        metrics = self._metrics = Metrics(insecure_options=0, label_rules=False)
        self._audit_export: Final = _start_audit_export(config, metrics)
        self._metrics_export: Final = _make_metrics_export(config, metrics)
        self._decisions: Final = DecisionLog(
            metrics,
            monotonic=time.monotonic,
            export=self._audit_export.write if self._audit_export is not None else None,
        )
        recent = RecentDecisions(time.time) if config.admin.console.enabled else None
        usage, signatures, tokens = KeyUsage(time.time), SignatureCache(), TokenCache()
        build = partial(
            build_snapshot,
            parse_token=tokens.parse,
            verify_signature=usage.record_use(tokens.keep_verified(signatures.verify)),
            nonce_secret=read_nonce_secret(config),
        )
        store = self._store = SnapshotStore(build(config))
        self._scheduler: Final = Scheduler(monotonic=time.monotonic)
        self._feeds: Final = make_feeds(
            store=store,
            scheduler=self._scheduler,
            usage=usage,
            metrics=metrics,
            evict=partial(_evict_removed_keys, (signatures, tokens)),
            on_refresh=self._report_refresh,
        )
        self._shared: Final = make_shared_state(config)
        self._revocations: Final = make_revocations(
            config, self._shared, store=store, scheduler=self._scheduler, metrics=metrics, admin=admin
        )
        self._transmitters: Final = make_transmitters(store, self._scheduler, self._feeds, self._revocations)
        transport = choose_transport(config.server.transport)
        fact_metrics = FactMetrics(metrics.registry)
        loop = Loop(time.monotonic)
        self._facts: Final = make_fact_lanes(config.server, transport, fact_metrics, loop)
        self._clients: Final = make_client_memory(config.clients)
        self._client_metrics: Final = ClientMetrics(metrics.registry, throttled=self._clients.count_throttled)
        self._status_lists: Final = make_status_lists(config.server, transport, fact_metrics)
        self._tokens: Final = make_token_lanes(config.server, transport, fact_metrics)
        self._keyring: Final = Keyring(
            self._show_signing,
            now=time.time,
            monotonic=time.monotonic,
            make_store=partial(make_key_store, self._shared),
        )
        signing = ProcessSigning(self._keyring)
        SigningMetrics(metrics.registry, signing.facts)
        lanes: dict[str, Lane] = {
            **self._facts.by_kind(),
            **self._clients.lanes(),
            **self._status_lists.by_kind(),
            PROOF: make_proof_lane(config, transport, fact_metrics, self._shared),
            MINTED: self._tokens.lane,
        }
        self._gatherer: Final = make_gatherer(config.server, transport, self._feeds, lanes, loop)
        self._readiness: Final = Readiness(missing=self._missing_keys, show=self._show_ready)
        routes = make_routes(
            waiting_for=self._readiness.waiting_for,
            registry=metrics.registry,
            keys=lambda: describe_keys(store.current(), self._feeds.feeds(), usage),
            refresh=self._refresh,
        )
        routes = {
            **routes,
            **make_routes_of_revocations(ProcessRevocations(self._revocations), config.admin.console),
            **make_routes_of_signing(signing),
        }
        receiver = ProcessReceiver(make_logout_receiver(store, self._feeds, self._revocations), self._transmitters)
        if admin is not None:  # a worker: its supervisor receives for it
            routes = {**routes, **make_worker_routes(receiver.receive)}
        self._receiver: Final = make_receiver(config.receivers, receiver) if admin is None else None
        self._last_hour: LastHour | None = None
        if recent is not None:
            self._last_hour = LastHour(metrics.totals, now=time.time)
            insight = Insight(
                Parts(
                    active=lambda: self._active,
                    snapshot=store.current,
                    feeds=self._feeds,
                    revocations=self._revocations.count,
                    sharing=self._revocations.describe_sharing,
                    usage=usage,
                    metrics=metrics,
                    decision_log=self._decisions,
                    clients=self._clients,
                    recent=recent,
                    last_hour=self._last_hour,
                    waiting_for=self._readiness.waiting_for,
                    now=time.time,
                )
            )
            routes = {**routes, **make_routes_of_console(insight, config.admin.console)}
        self._admin: Final = AdminServer(admin or parse_tcp_address(config.admin.listen), routes)
        self._spans: Final = start_spans(
            config.telemetry.traces.exporter, keys_age=self._feeds.keys_age, dropped=metrics.count_dropped_spans
        )
        self._active: Final = ActiveConfig(
            file,
            loaded,
            store.current(),
            prepare=partial(_prepare, file, build),
            reconfigure=self._reconfigure,
            metrics=metrics,
            make_report=lambda reporting: reporter(
                metrics,
                self._decisions,
                reporting,
                spans=self._spans,
                random=random.random,
                recent=recent,
                note_client=self._note_client,
            ),
        )
        self._reload: Final = ReloadLoop(
            watch,
            on_change=self._active.reload,
            on_removed=self._active.report_removed,
            stopping=self._readiness.draining,
        )
        self._server: Final = make_server(
            config.server,
            self._address,
            transport=transport,
            store=store,
            gatherer=self._gatherer,
            metrics=metrics,
            report=self._active.report,
        )

    def start(self) -> None:
        """Bind and serve, but do not report ready yet. Raises OSError if an address cannot be bound."""
        where = bind(self._server, self._address, self._server_section)
        self._scheduler.start(self._feeds_to_step)
        self._revocations.start()
        self._keyring.start()
        self._gatherer.start()
        self._server.start()
        self._admin.start()
        if self._receiver is not None:
            self._receiver.start()
            log.info("logout tokens are received on %s", self._receiver.address)
        Thread(target=self._reload.run, name="reload", daemon=True).start()
        Thread(target=self._summarise, name="summarise", daemon=True).start()
        if self._metrics_export is not None:
            self._metrics_export.start()
        if self._last_hour is not None:
            Thread(target=self._last_hour.run, args=(self._readiness.draining,), name="last-hour", daemon=True).start()
        log.info("authz %s (%s) serves on %s, admin on %s", __version__, IMPLEMENTATION, where, self._admin.address)
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
        self._facts.close()
        self._status_lists.close()
        self._keyring.stop()
        self._revocations.stop()
        if self._shared is not None:
            self._shared.close()
        self._tokens.close()
        self._transmitters.close()
        self._scheduler.stop()
        if self._receiver is not None:
            self._receiver.stop()
        self._decisions.summarise(name_clients=self._active.names_clients)
        if self._spans is not None:
            self._spans.stop()
        for export in (self._audit_export, self._metrics_export):
            if export is not None:
                export.stop()
        self._admin.stop()
        log.info("stopped")

    def _feeds_to_step(self) -> list[Steppable]:
        parts = (self._feeds, self._revocations, self._transmitters)
        return [feed for part in parts for feed in part.feeds_to_step()]

    def _reconfigure(self, config: Config, snapshot: Snapshot) -> None:
        self._facts.reconfigure(config)  # before the snapshot that needs them
        self._clients.reconfigure(snapshot.clients)
        self._revocations.reconfigure(config)
        self._transmitters.reconfigure(config)
        self._status_lists.reconfigure(config)
        if config.identity.minted is None:
            self._feeds.apply(config, snapshot)
            self._keyring.reconfigure(config)  # after the last snapshot that needs a key
            return
        forbid_core_dumps()
        self._tokens.max_cached = config.identity.minted.max_cached
        self._keyring.reconfigure(config)
        self._feeds.apply(config, snapshot)

    def _note_client(self, decision: Decision) -> None:
        self._clients.note(decision)
        self._client_metrics.count(decision)

    def _show_signing(self, view: KeyringView) -> None:
        """Use the keys of *view*: those of before can sign until the snapshot has changed."""
        self._tokens.add(view)
        self._store.set_signing(view.key, view.published)
        self._tokens.use(view)

    def _refresh(self, name: str | None) -> Mapping[str, object] | None:
        issuers = self._feeds.refresh(name)
        return None if issuers is None else {"issuers": issuers}

    def _report_refresh(self, issuer: str, result: Refresh, seconds: float) -> None:
        section = self._active.config.issuers.get(issuer)
        if section is None or section.jwks_file is not None:  # a file is read every second
            return
        self._metrics.observe_refresh(issuer, seconds)
        if self._spans is not None:
            self._spans.write_refresh(issuer, result, seconds)

    def _summarise(self) -> None:
        while not self._readiness.draining.wait(PERIOD):
            self._decisions.summarise(name_clients=self._active.names_clients)

    def _missing_keys(self) -> list[str]:
        lists = [f"revocations of {name}" for name in self._revocations.waiting_for()]
        unsigned = ["a signing key"] if self._keyring.enabled and self._keyring.view.key is None else []
        return [*(f"keys of {name}" for name in self._feeds.waiting_for()), *lists, *unsigned]

    def _show_ready(self, ready: bool) -> None:  # noqa: FBT001 - a callback
        self._server.show_ready(ready=ready)

    def _become_ready(self) -> None:
        if self._readiness.await_ready():
            log.info("ready")


def _prepare(file: Path, build: Callable[..., Snapshot]) -> tuple[Loaded, Snapshot]:
    gc.disable()  # nothing of what is made here is garbage, and a collection stops all threads
    try:
        loaded = load(file, pause=_pause)
        snapshot = build(loaded.config, pause=_pause)
        if len(loaded.config.rules) > _MANY_RULES:
            # Otherwise the next three collections would each look through all rules. These have no cycles: the last
            # use of a snapshot frees it. Garbage in cycles that is not collected yet would stay.
            gc.freeze()
        return loaded, snapshot
    finally:
        gc.enable()


def _pause() -> None:
    """Let the thread that decides go on: a reload must not be noticed."""
    time.sleep(_PAUSE)


def _evict_removed_keys(caches: Iterable[SignatureCache | TokenCache], snapshot: Snapshot) -> None:
    for cache in caches:
        cache.evict_removed_keys(snapshot)


def _start_audit_export(config: Config, metrics: Metrics) -> AuditExport | None:
    """Begin to export decisions, if they are to be exported. Raises ExportError."""
    if config.telemetry.logs.exporter is OtlpExporter.NONE or is_disabled(os.environ):
        return None
    from authz.telemetry.audit_export import start_audit_export  # noqa: PLC0415 - the SDK is slow to import

    return start_audit_export(dropped=metrics.count_dropped_records)


def _make_metrics_export(config: Config, metrics: Metrics) -> MetricsExport | None:
    """Make what exports metrics, if they are to be exported. Raises ExportError."""
    if config.telemetry.metrics.exporter is OtlpExporter.NONE or is_disabled(os.environ):
        return None
    from authz.telemetry.metrics_export import start_metrics_export  # noqa: PLC0415 - as above

    return start_metrics_export(metrics.registry)
