"""The risk engine: where it is, what it is asked, and what a failure counts as."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from authz.config.address import is_on_this_host
from authz.config.section import Access, Duration, Items, Section, Setting, Size, Word


class RiskKind(StrEnum):
    """The protocol of a risk engine: a POST of JSON."""

    HTTP = "http"


class OnError(Section):
    """What a rule reads if the engine does not answer: at least one of both."""

    level: Annotated[str | None, Setting(Access.UNKNOWN, meaning="other requests pass while the engine is down")] = None
    """The level."""
    score: Annotated[float | None, Setting(Access.UNKNOWN, meaning="other requests pass while the engine is down")] = (
        None
    )
    """The score."""


class InsecureRisk(Section):
    """Options that weaken the answers of the engine; each warns at start and shows in `authz_insecure_options`."""

    http: Annotated[
        bool, Setting(Access.LOOSENED, risk="anyone who controls the network to this engine controls its answers")
    ] = False
    """Plain HTTP beyond this host: anyone who controls the network controls the answers."""


class Risk(Section):
    """A risk engine, which only rules ask that read `risk.level` or `risk.score`."""

    kind: Annotated[Word[RiskKind], Setting(Access.UNKNOWN)] = RiskKind.HTTP
    """http: a POST of JSON with issuer, subject, client, address and headers; the answer has level, score or both."""
    url: Annotated[str, Setting(Access.UNKNOWN)]
    """Its URL."""
    bearer_token_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with a bearer token; read each time."""
    basic_credentials_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with `user:password` (Basic); read each time."""
    client_cert_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of the client certificate and its chain (mutual TLS)."""
    client_key_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of its key, without a password."""
    ca_file: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """PEM file of the trusted authorities, in place of the system's."""
    send_headers: Annotated[Items[str], Field(examples=[["user-agent"]]), Setting(Access.UNKNOWN)] = ()
    """Headers of requests that it gets, in lower case; none that holds a token."""
    on_error: Annotated[OnError | None, Field(examples=[{"level": "high"}])] = None
    """What a failure counts as; without it the answer is 503."""
    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"))] = timedelta(milliseconds=500)
    """Bound of one whole exchange."""
    max_wait: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"), envoy=True)] = timedelta(
        milliseconds=500
    )
    """Longest time that a request waits for the answer."""
    cache: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("0s", "1h"), meaning="an answer that has changed stays in use so long")
    ] = timedelta(seconds=30)
    """How long an answer is used again for the same question; 0s: it never is."""
    max_cached: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "1000000"))] = 10_000
    """Largest number of cached answers."""
    max_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "1MiB"))] = 16 * 1024
    """Largest answer that is read."""
    max_concurrent: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "256"))] = 16
    """Questions that are under way at one time, each on a thread and a connection."""
    max_per_second: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "100000"))] = 1000
    """Questions a second; so many may come at once."""
    insecure: InsecureRisk = InsecureRisk()
    """Options that weaken its answers."""

    @property
    def allows_http(self) -> bool:
        """Whether the URL may be a plain one."""
        return self.insecure.http or is_on_this_host(self.url)
