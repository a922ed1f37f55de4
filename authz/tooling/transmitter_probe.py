"""Ask each transmitter of security events once for its keys, and for its events if they are fetched.

The code that serves asks; no event is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from authz.config.model import Config
from authz.config.revocation import Transmitter
from authz.feeds.failure import RefreshError
from authz.feeds.transmitters import make_key_source, make_poll_source
from authz.telemetry.redaction import printable
from authz.tooling.key_probe import ADVICE


@dataclass(frozen=True, slots=True)
class ProbedTransmitter:
    """The transmitter *name*, with keys from *location*: *findings* are sentences, *ok* if all is well."""

    name: str
    location: str
    ok: bool
    findings: tuple[str, ...]
    advice: str = ""

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"transmitter {self.name}: {printable(self.location)}"
        yield from (f"  {'proved' if self.ok else 'failed'}        {printable(finding)}" for finding in self.findings)
        if self.advice:
            yield f"  to do         {self.advice}"

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "transmitter": self.name,
            "source": self.location,
            "ok": self.ok,
            "findings": list(self.findings),
            "advice": self.advice,
        }


def probe_transmitters(config: Config) -> list[ProbedTransmitter]:
    """Ask every transmitter, one after the other."""
    return [_probe(name, section) for name, section in config.revocation.transmitters.items()]


def _probe(name: str, section: Transmitter) -> ProbedTransmitter:
    source = make_key_source(section)
    findings = []
    try:
        keys = source.load(on_demand=False).value
        findings.append(f"keys for its events: {len(keys.keys) if keys is not None else 0}")
        if section.poll_url is not None:
            _poll(section)
            findings.append("poll_url answers; no event was taken")
    except RefreshError as error:
        return ProbedTransmitter(name, source.location, ok=False, findings=(str(error),), advice=ADVICE[error.result])
    return ProbedTransmitter(name, source.location, ok=True, findings=tuple(findings))


def _poll(section: Transmitter) -> None:
    polling = make_poll_source(section, _take_none)
    try:
        polling.probe()
    finally:
        polling.close()


def _take_none(_event: bytes) -> None:
    """Take no event: none is asked for."""
