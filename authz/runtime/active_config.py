"""The active configuration: a new one is applied as a whole, or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.config.model import Config
from authz.config.problems import ConfigError, Problem
from authz.config.select import select
from authz.config.telemetry import Decisions
from authz.core.snapshot import Snapshot
from authz.runtime.loaded import CheckFailedError, Loaded
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.logs import set_up_logging
from authz.telemetry.metrics import Metrics
from authz.telemetry.report import Reporting

log = logging.getLogger(__name__)

_DIGEST_CHARS: Final = 16  # of the SHA-256
_MAX_REJECTION_CHARS: Final = 20_000  # that are kept of what is wrong with a file

_ENVOY_MUST_RELOAD: Final = (
    "new headers %s: until Envoy's configuration has them, Envoy answers 500 to every request that is allowed. "
    "`authz envoy-config --config %s` prints what it needs, with --check it names what an envoy.yaml lacks; "
    "reload Envoy, and next time do so first"
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the file is not in use, and since when, in seconds since the epoch."""

    at: float
    text: str


class ActiveConfig:
    """Applies the last valid configuration to feeds, facts, metrics and decision reports."""

    def __init__(
        self,
        file: Path,
        loaded: Loaded,
        snapshot: Snapshot,
        *,
        prepare: Callable[[], tuple[Loaded, Snapshot]],
        reconfigure: Callable[[Config, Snapshot], None],
        metrics: Metrics,
        make_report: Callable[[Reporting], Callable[[CheckRecord], None]],
    ) -> None:
        """Apply *loaded* and the *snapshot* built from it; *prepare* makes later ones from the file.

        *reconfigure* is called with both when they are to be served: it fails before anything has changed, or not at
        all.
        *make_report* returns the function that reports each decision, for the given settings.
        """
        self._file: Final = file
        self._started_with: Final = loaded.config
        self._prepare: Final = prepare
        self._reconfigure: Final = reconfigure
        self._metrics: Final = metrics
        self._make_report: Final = make_report
        self.rejected: Rejection | None = None
        self._loaded = loaded
        self._report: Callable[[CheckRecord], None]
        self._apply(loaded, snapshot)

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._loaded.config

    @property
    def warnings(self) -> Sequence[Problem]:
        """The warnings about the configuration in use."""
        return self._loaded.warnings

    @property
    def restart_required(self) -> Sequence[str]:
        """The settings whose changes take effect at the next start."""
        return self._loaded.restart_required

    @property
    def started_with(self) -> Config:
        """The configuration that the process started with: of some keys it stays in use."""
        return self._started_with

    @property
    def file(self) -> Path:
        """The configuration file."""
        return self._file

    @property
    def names_clients(self) -> bool:
        """Whether log lines may name clients."""
        telemetry = self._loaded.config.telemetry
        return telemetry.log_client and telemetry.decisions is not Decisions.NONE

    def report(self, record: CheckRecord) -> None:
        """Report one decision."""
        self._report(record)

    def reload(self) -> None:
        """Read the file and apply it as a whole; if it is invalid, change nothing."""
        try:
            loaded, snapshot = self._prepare()
            config = loaded.config
            restart = [
                name
                for name in loaded.restart_required
                if list(select(config, name)) != list(select(self._started_with, name))
            ]
            new_headers = sorted(loaded.headers - self._loaded.headers)
            self._apply(loaded, snapshot)
        except ConfigError as error:
            self._reject(str(error))
            log.error("configuration not reloaded, the last one stays: %s", error)  # noqa: TRY400 - no traceback
        except CheckFailedError as error:
            self._reject(str(error))
            log.error("configuration not reloaded, the last one stays: %s\n%s", error, error.traceback)  # noqa: TRY400 - as above
        except Exception as error:  # a failed reload must not end the watch
            self._reject(f"an error of ours: {type(error).__name__}")
            log.exception("configuration not reloaded, the last one stays")
        else:
            self._metrics.count_reload(accepted=True)
            self.rejected = None
            set_up_logging(level=config.telemetry.log_level, log_format=config.telemetry.log_format)
            log.info("configuration reloaded")
            self.warn()
            if restart:
                log.warning("changes of %s take effect at the next start", " and ".join(restart))
            if new_headers:
                log.warning(_ENVOY_MUST_RELOAD, ", ".join(new_headers), self._file)

    def report_removed(self) -> None:
        """Report that the file was removed."""
        self._reject("the file was removed")
        log.error("configuration file %s was removed, the last one stays", self._file)

    def warn(self) -> None:
        """Log the warnings about the configuration."""
        for warning in self.warnings:
            log.warning("%s", warning)

    def _reject(self, text: str) -> None:
        self._metrics.count_reload(accepted=False)
        self.rejected = Rejection(time.time(), text[:_MAX_REJECTION_CHARS])

    def _apply(self, loaded: Loaded, snapshot: Snapshot) -> None:
        """Use *loaded* and the *snapshot* built from it from the next request on."""
        config = loaded.config
        telemetry = config.telemetry
        digest = config.digest[:_DIGEST_CHARS]
        reporting = Reporting(
            decisions=telemetry.decisions,
            log_client=telemetry.log_client,
            sample_ratio=telemetry.traces.sample_ratio,
            trust_client=config.insecure.trust_client_traceparent,
            clients=snapshot.clients is not None,
        )
        report = self._make_report(reporting)
        # Everything that may fail is above: a failure changes nothing.
        self._reconfigure(config, snapshot)
        self._loaded, self._report = loaded, report
        self.digest, self.loaded_at = digest, time.time()
        self._metrics.apply(
            insecure_options=loaded.insecure_options,
            label_rules=len(config.rules) <= telemetry.max_rule_labels,
            digest=digest,
        )
