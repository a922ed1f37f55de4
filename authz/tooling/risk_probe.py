"""Ask the risk engine once, by the code that serves, and say what that proves.

1. A made-up question: the URL, the connection, our credentials and the form of the answer, and whether it has what the
   rules read.
2. The same with credentials that are wrong: whether the engine looks at them at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authz.config.model import Config
from authz.config.risk import Risk
from authz.core.needs import Need
from authz.core.risk import ENGINE, RISK, Assessment
from authz.facts.source import SourceError
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.risk import make_risk
from authz.telemetry.redaction import printable
from authz.tooling.wrong_credentials import try_wrong_credentials

_MADE_UP: Final = "authz-check-config"


@dataclass(frozen=True, slots=True)
class ProbedRisk:
    """The result of asking the engine: *ok* if it answers what the rules read; *findings* are sentences."""

    ok: bool
    findings: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"risk engine: {'answers' if self.ok else 'fails'}"
        yield from (f"  {'proved' if self.ok else 'failed'}        {printable(finding)}" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"ok": self.ok, "findings": list(self.findings)}


def probe_risk(config: Config) -> ProbedRisk | None:
    """Probe the risk engine of a configuration, if it has one."""
    section = config.risk
    if section is None:
        return None
    question = {
        "issuer": next(iter(config.issuers)),
        "subject": _MADE_UP,
        "client": None,
        "address": "192.0.2.1",  # of RFC 5737, for documents
        "headers": dict.fromkeys(section.send_headers, _MADE_UP),
    }
    try:
        assessment = _ask(section, question)
    except SourceError as error:
        return ProbedRisk(ok=False, findings=(f"{error.result}: {error}",))
    values = [] if assessment.level is None else [f"level {assessment.level}"]
    values += [] if assessment.score is None else [f"score {assessment.score:g}"]
    summary = f"a made-up client has {' and '.join(values)}"
    if lacking := list(_find_lacking(config, assessment)):
        return ProbedRisk(ok=False, findings=(f"{summary}; {'; '.join(lacking)}",))
    credentials_finding = try_wrong_credentials(section, lambda auth: _ask(section, question, auth))
    return ProbedRisk(ok=True, findings=(summary, credentials_finding))


def _find_lacking(config: Config, assessment: Assessment) -> Iterator[str]:
    """Yield which rules read what the engine does not say."""
    for rule in config.rules:
        if rule.require is None:
            continue
        wanted, condition = rule.require.risk, rule.require.when or ""
        by_level = "risk.level" in condition or (wanted is not None and bool(wanted.levels))
        by_score = "risk.score" in condition or (wanted is not None and wanted.max_score is not None)
        if by_level and assessment.level is None:
            yield f"rule {rule.name!r} reads a level"
        if by_score and assessment.score is None:
            yield f"rule {rule.name!r} reads a score"


def _ask(section: Risk, question: Mapping[str, object], auth: ClientAuth | None = None) -> Assessment:
    """Raises SourceError."""
    source = make_risk(section, auth=auth)
    try:
        value = source(Need(RISK, ENGINE, None, payload=json.dumps(question))).value
    finally:
        source.close()
    if not isinstance(value, Assessment):
        raise SourceError("unreadable", "no assessment")
    return value
