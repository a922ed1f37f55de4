"""The composition root: build the parts, start them, become ready, reload, drain, stop."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Final

import grpc

from authz import __version__
from authz.admin import AdminServer
from authz.config.address import Address, UnixAddress, parse_address, parse_tcp_address
from authz.config.build import build_snapshot
from authz.config.diagnostics.warnings import count_insecure, warnings
from authz.config.load import load
from authz.config.model import RESTART_REQUIRED, Config, Decisions, Tls
from authz.config.problems import ConfigError
from authz.config.select import select
from authz.config.watch import FileWatch
from authz.core.snapshot import Snapshot
from authz.envoy.check import Checker
from authz.envoy.credentials import TlsFiles, make_credentials
from authz.envoy.service import AuthorizationServer
from authz.feeds.issuers import IssuerFeeds
from authz.feeds.jwks import Runtime
from authz.feeds.report import describe_keys
from authz.feeds.scheduler import Scheduler
from authz.feeds.store import Store
from authz.feeds.usage import Usage
from authz.memo import SignatureMemo
from authz.telemetry.decisions import PERIOD, DecisionLog
from authz.telemetry.judged import Judged
from authz.telemetry.keys import KeyMetrics, Refresh
from authz.telemetry.logs import set_up_logging
from authz.telemetry.metrics import Metrics
from authz.telemetry.report import Reporting, reporter
from authz.telemetry.traces import start_spans
from authz.tooling.envoy_config.requirements import requirements_of

log = logging.getLogger(__name__)

_READY_POLL: Final = 0.05  # seconds between two looks at what readiness waits for
# Seconds of answering on after health says NOT_SERVING: Envoy looks once a second, and its workers learn of what it saw
# up to a second later (`update_merge_window`). With 1.0, one restart in two lost requests.
_LAME_DUCK: Final = 3.0
_MAX_IDLE: Final = 300.0  # seconds; on TCP strangers may park connections, of which there is room for so many
_WATCH_POLL: Final = 1.0  # seconds between two looks at the configuration file
_UNHEARD: Final = (
    "new headers %s: until Envoy is told of them it answers 500 to every request that is allowed. "
    "`authz envoy-config --config %s` prints what it needs, with --check it names what an envoy.yaml lacks; "
    "reload Envoy, and the next time do so before"
)


class App:
    """One process of the sidecar, on the configuration in *file*."""

    def __init__(
        self, file: Path, config: Config, *, listen: Address | None = None, admin: Address | None = None
    ) -> None:
        """Build everything; only the admin address is bound. Raises OSError where it cannot be, and TracingError.

        *listen* and *admin* are a worker's own addresses, in place of the configured ones.
        """
        self._file: Final = file
        self._started_with: Final = config
        self._address: Final = listen or parse_address(config.server.listen)
        self._watch: Final = FileWatch(file)
        self._config = config
        self._stopping: Final = Event()
        self._reload: Final = Event()
        self._was_ready = False
        self._metrics: Final = Metrics(insecure_options=0, label_rules=False)
        self._report: Callable[[Judged], None]
        self._decisions: Final = DecisionLog(self._metrics, monotonic=time.monotonic)
        self._usage: Final = Usage(time.time)
        memo = SignatureMemo()
        self._verify: Final = self._usage.watch(memo.verify)
        self._store: Final = Store(build_snapshot(config, verify=self._verify), changed=memo.forget_vanished)
        self._scheduler: Final = Scheduler(monotonic=time.monotonic)
        self._feeds: Final = IssuerFeeds(
            store=self._store,
            scheduler=self._scheduler,
            runtime=Runtime(
                monotonic=time.monotonic,
                now=time.time,
                jitter=random.random,
                fly=self._scheduler.fly,
                tell=self._tell_refresh,
            ),
            usage=self._usage,
            metrics=KeyMetrics(self._metrics.registry),
        )
        # The system's own source costs every call a wait for the interpreter. Clients see these numbers: they are of a
        # generator that nothing else is drawn from.
        ids = random.Random()  # noqa: S311 - to tell decisions apart, not to keep a secret
        checker = Checker(
            snapshot=self._store.current,
            feeds=self._scheduler,
            report=self._tell,
            now=time.time,
            elapsed=time.monotonic,
            new_id=lambda: f"{ids.getrandbits(64):016x}",
            max_waiters=config.server.threads - 1,
        )
        self._server: Final = AuthorizationServer(
            checker,
            threads=config.server.threads,
            max_concurrent=config.server.max_concurrent,
            max_idle=None if isinstance(self._address, UnixAddress) else _MAX_IDLE,
            given_up=self._metrics.count_cancelled,
        )
        self._metrics.watch_in_flight(self._server.in_flight)
        self._admin: Final = AdminServer(
            admin or parse_tcp_address(config.admin.listen),
            waiting_for=self._waiting_for,
            registry=self._metrics.registry,
            keys=lambda: describe_keys(self._store.current(), self._scheduler.feeds, self._usage),
        )
        self._spans: Final = start_spans(
            config.telemetry.traces.exporter, keys_age=self._keys_age, dropped=self._metrics.count_dropped_spans
        )
        self._follow(config, self._store.current())

    def start(self) -> None:
        """Bind and serve; become ready when the keys are there. Raises OSError where an address cannot be bound."""
        where = self._listen()
        self._scheduler.start()
        self._server.start()
        self._admin.start()
        for work in (self._watch_config, self._become_ready, self._summarise):
            Thread(target=work, name=work.__name__.strip("_"), daemon=True).start()
        log.info("authz %s serves on %s, admin on %s", __version__, where, self._admin.address)
        _warn(self._config)

    def drain(self) -> None:
        """Turn new calls away, answer on while Envoy notices, let those in flight finish, and stop."""
        self._stopping.set()
        self._server.show_ready(ready=False)
        drain = self._started_with.server.drain.total_seconds()
        lame_duck = min(_LAME_DUCK, drain / 2)
        log.info("draining for at most %g s", drain)
        time.sleep(lame_duck)
        self._server.stop(grace=drain - lame_duck)
        self._scheduler.stop()
        self._decisions.summarise(name_clients=self._names_clients())
        if self._spans is not None:
            self._spans.stop()
        self._admin.stop()
        log.info("stopped")

    def reload(self) -> None:
        """Read the configuration anew, soon and on a thread of its own."""
        self._reload.set()

    def _tell(self, judged: Judged) -> None:
        self._report(judged)

    def _tell_refresh(self, issuer: str, result: Refresh, seconds: float) -> None:
        section = self._config.issuers.get(issuer)
        if self._spans is not None and section is not None and section.jwks_file is None:  # a file is read every second
            self._spans.write_refresh(issuer, result, seconds)

    def _keys_age(self, issuer: str) -> float | None:
        feed = self._scheduler.feeds.get(issuer)
        return feed.state().age if feed is not None else None

    def _names_clients(self) -> bool:
        telemetry = self._config.telemetry
        return telemetry.log_client and telemetry.decisions is not Decisions.NONE

    def _summarise(self) -> None:
        while not self._stopping.wait(PERIOD):
            self._decisions.summarise(name_clients=self._names_clients())

    def _follow(self, config: Config, snapshot: Snapshot) -> None:
        """Judge and report by *config*, of which *snapshot* was built, from the next request on."""
        telemetry = config.telemetry
        insecure_options = count_insecure(config)
        digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]
        reporting = Reporting(
            decisions=telemetry.decisions,
            log_client=telemetry.log_client,
            sample_ratio=telemetry.traces.sample_ratio,
            trust_client=config.insecure.trust_client_traceparent,
        )
        report = reporter(self._metrics, self._decisions, reporting, spans=self._spans, random=random.random)
        # Everything is made by here: what fails before changes nothing.
        self._feeds.follow(config, snapshot)
        self._config, self._report = config, report
        self._metrics.follow(
            insecure_options=insecure_options,
            label_rules=len(config.rules) <= telemetry.max_rule_labels,
            digest=digest,
        )

    def _watch_config(self) -> None:
        while not self._stopping.is_set():
            asked = self._reload.wait(_WATCH_POLL)
            self._reload.clear()
            if self._watch.changed(asked=asked):
                self._reload_now()
            elif self._watch.gone():
                self._metrics.count_reload(accepted=False)
                log.error("configuration file %s is gone, the last one stays", self._file)

    def _reload_now(self) -> None:
        """Take up what the file says now, whole, or nothing of it."""
        try:
            config = load(self._file)
            fixed = [
                name
                for name in RESTART_REQUIRED
                if list(select(config, name)) != list(select(self._started_with, name))
            ]
            unheard = sorted(set(requirements_of(config).written).difference(requirements_of(self._config).written))
            self._follow(config, build_snapshot(config, verify=self._verify))
        except ConfigError as error:
            self._metrics.count_reload(accepted=False)
            log.error("configuration not reloaded, the last one stays: %s", error)  # noqa: TRY400 - it says it all
        except Exception:  # a reload that breaks must not end the watch
            self._metrics.count_reload(accepted=False)
            log.exception("configuration not reloaded, the last one stays")
        else:
            self._metrics.count_reload(accepted=True)
            set_up_logging(level=config.telemetry.log_level, log_format=config.telemetry.log_format)
            log.info("configuration reloaded")
            _warn(config)
            if fixed:
                log.warning("changes of %s take effect at the next start", " and ".join(fixed))
            if unheard:
                log.warning(_UNHEARD, ", ".join(unheard), self._file)

    def _listen(self) -> str:
        server, address = self._config.server, self._address
        if isinstance(address, UnixAddress):
            self._server.listen_unix(Path(address.path), mode=int(server.socket_mode, 8))
            return f"unix:{address.path}"
        credentials = _make_credentials(server.tls) if server.tls is not None else None
        host = f"[{address.host}]" if ":" in address.host else address.host
        port = self._server.listen_tcp(f"{host}:{address.port}", credentials=credentials)
        return f"{host}:{port}"

    def _waiting_for(self) -> list[str]:
        """Name what readiness waits for. Once ready, an issuer's trouble never makes the pod unready."""
        if self._stopping.is_set():
            return ["the end of the drain"]
        if self._was_ready:
            return []
        return [f"keys of {name}" for name in self._feeds.waiting_for()]

    def _become_ready(self) -> None:
        """Wait for the first keys of every required issuer, or for the end."""
        while self._waiting_for() and not self._stopping.wait(_READY_POLL):
            pass
        if not self._stopping.is_set():
            self._was_ready = True
            self._server.show_ready(ready=True)
            log.info("ready")


def _warn(config: Config) -> None:
    for warning in warnings(config):
        log.warning("%s", warning)


def _make_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return credentials that follow the files of *tls*. Raises OSError."""
    client_ca = Path(tls.client_ca_file) if tls.client_ca_file is not None else None
    try:
        return make_credentials(TlsFiles(Path(tls.cert_file), Path(tls.key_file), client_ca))
    except OSError as error:
        raise OSError(f"server.tls: {error}") from error
