"""Review a given Envoy configuration for what lets a request, or an identity header, bypass the sidecar.

The table FINDING_KINDS lists what is looked for. Only the file is read; what comes from elsewhere is reported as such.
Envoy is not simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from authz.config.document import Document
from authz.config.model import Config
from authz.config.problems import render_path
from authz.telemetry.redaction import printable
from authz.tooling.envoy_config.context import Context
from authz.tooling.envoy_config.finding_kinds import FINDING_KINDS, FindingKind
from authz.tooling.envoy_config.reading import Node
from authz.tooling.envoy_config.requirements import requirements_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place where the kind *name* was found; *line* counts from 1."""

    name: str
    path: str
    line: int
    detail: str

    @property
    def kind(self) -> FindingKind:
        """The kind of this finding."""
        return FINDING_KINDS[self.name]

    def __str__(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        location = f"{self.path}: " if self.path else ""
        return f"{self.kind.level}: {self.name}: {location}{self.kind.what}{detail} ({self.kind.fix})"

    def document(self) -> dict[str, Any]:
        """Return the same as JSON data."""
        return {
            "name": self.name,
            "level": self.kind.level.value,
            "line": self.line,
            "path": self.path,
            "what": self.kind.what,
            "detail": self.detail,
            "fix": self.kind.fix,
        }


def review(document: Document, config: Config) -> list[Finding]:
    """Return the findings in *document*, an Envoy configuration in front of the sidecar of *config*, by line."""
    context = Context.of(Node(document.data), requirements_of(config))
    findings = [
        Finding(
            name=name,
            path=render_path(location.node.path),
            line=document.line_of(location.node.path),
            detail=printable(location.detail) or "",
        )
        for name, kind in FINDING_KINDS.items()
        for location in kind.check(context)
    ]
    return sorted(findings, key=lambda finding: (finding.line, finding.name))
