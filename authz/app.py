"""The composition root: build the parts, start them, become ready, drain, stop."""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

import grpc

from authz import __version__
from authz.admin import AdminServer
from authz.config.address import UnixAddress, parse_address, parse_tcp_address
from authz.config.build import build_snapshot
from authz.config.model import Config, Tls
from authz.config.warnings import warnings
from authz.core.keys import KeySet
from authz.envoy.check import Checker
from authz.envoy.service import AuthorizationServer
from authz.feeds.assembly import make_feed
from authz.feeds.jwks import KeyFeed
from authz.feeds.scheduler import Scheduler
from authz.feeds.store import Store
from authz.memo import SignatureMemo
from authz.telemetry.report import Metrics, reporter

log = logging.getLogger(__name__)

_READY_POLL: Final = 0.05  # seconds between two looks at what readiness waits for
_LAME_DUCK: Final = (
    1.0  # seconds of answering on after health says NOT_SERVING; Envoy's health check looks every second
)


class App:
    """One process of the sidecar."""

    def __init__(self, config: Config) -> None:
        """Build everything, bind nothing."""
        self._config: Final = config
        self._stopping: Final = Event()
        self._was_ready = False
        self._store: Final = Store(build_snapshot(config, verify=SignatureMemo().verify))
        self._scheduler: Final = Scheduler(monotonic=time.monotonic)
        self._feeds: Final = self._make_feeds()
        self._metrics: Final = Metrics(
            insecure_options=sum(
                problem.path[0] == "insecure" or "insecure" in problem.path for problem in warnings(config)
            ),
            label_rules=len(config.rules) <= config.telemetry.max_rule_labels,
        )
        checker = Checker(
            snapshot=self._store.current,
            feeds=self._scheduler,
            report=reporter(
                self._metrics,
                decisions=config.telemetry.decisions,
                log_client=config.telemetry.log_client,
            ),
            now=time.time,
            elapsed=time.monotonic,
            new_id=partial(secrets.token_hex, 8),
            max_waiters=config.server.threads - 1,
        )
        self._server: Final = AuthorizationServer(
            checker, threads=config.server.threads, max_concurrent=config.server.max_concurrent
        )

    def run(self) -> None:
        """Serve until `stop` is called, then drain. Raises OSError where an address cannot be bound."""
        admin_address = parse_tcp_address(self._config.admin.listen)
        admin = AdminServer(
            admin_address.host, admin_address.port, waiting_for=self._waiting_for, registry=self._metrics.registry
        )
        where = self._listen()
        self._scheduler.add(self._feeds)
        self._scheduler.start()
        self._server.start()
        admin.start()
        log.info("authz %s serves on %s, admin on port %d", __version__, where, admin.port)
        self._become_ready()
        self._stopping.wait()
        self._drain()
        self._scheduler.stop()
        admin.stop()
        log.info("stopped")

    def stop(self) -> None:
        """Begin to drain."""
        self._stopping.set()

    def _make_feeds(self) -> list[KeyFeed]:
        feeds = (
            make_feed(
                name,
                section,
                publish=self._publisher(section.issuer),
                monotonic=time.monotonic,
                jitter=random.random,
                fly=self._scheduler.fly,
            )
            for name, section in self._config.issuers.items()
        )
        return [feed for feed in feeds if feed is not None]

    def _publisher(self, issuer: str) -> Callable[[KeySet | None], None]:
        return partial(self._store.set_keys, issuer)

    def _listen(self) -> str:
        server = self._config.server
        address = parse_address(server.listen)
        if isinstance(address, UnixAddress):
            self._server.listen_unix(Path(address.path), mode=int(server.socket_mode, 8))
            return server.listen
        credentials = _load_credentials(server.tls) if server.tls is not None else None
        port = self._server.listen_tcp(server.listen, credentials=credentials)
        return f"{address.host}:{port}"

    def _waiting_for(self) -> list[str]:
        """Name what readiness waits for. Once ready, an issuer's trouble never makes the pod unready."""
        if self._stopping.is_set():
            return ["the end of the drain"]
        if self._was_ready:
            return []
        return [
            f"keys of {feed.name}"
            for feed in self._feeds
            if self._config.issuers[feed.name].required and not feed.has_had_keys.is_set()
        ]

    def _become_ready(self) -> None:
        """Wait for the first keys of every required issuer, or for the end."""
        while self._waiting_for() and not self._stopping.wait(_READY_POLL):
            pass
        if not self._stopping.is_set():
            self._was_ready = True
            self._server.show_ready(ready=True)
            log.info("ready")

    def _drain(self) -> None:
        """Turn new calls away first, answer on while Envoy notices, then let those in flight finish."""
        self._server.show_ready(ready=False)
        drain = self._config.server.drain.total_seconds()
        lame_duck = min(_LAME_DUCK, drain / 2)
        log.info("draining for at most %g s", drain)
        time.sleep(lame_duck)
        self._server.stop(grace=drain - lame_duck)


def _load_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Read the files of *tls*; with a client CA, a client without a certificate of it is refused. Raises OSError."""
    pair = (Path(tls.key_file).read_bytes(), Path(tls.cert_file).read_bytes())
    client_ca = Path(tls.client_ca_file).read_bytes() if tls.client_ca_file is not None else None
    return grpc.ssl_server_credentials([pair], root_certificates=client_ca, require_client_auth=client_ca is not None)
