"""The section `telemetry`: traces, metrics and logs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from authz.config.declaring import Field
from authz.config.section import Access, Choice, Section, Setting


class Exporter(StrEnum):
    """Where spans go."""

    OTLP = "otlp"
    CONSOLE = "console"
    NONE = "none"


class OtlpExporter(StrEnum):
    """Where the decision log goes beside its lines, and metrics beside /metrics."""

    OTLP = "otlp"
    NONE = "none"


class Decisions(StrEnum):
    """Which decisions are logged."""

    ALL = "all"
    DENIED = "denied"
    NONE = "none"


class LogLevel(StrEnum):
    """The minimum severity of messages that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """The form of log lines; ecs is JSON in the Elastic Common Schema."""

    JSON = "json"
    ECS = "ecs"
    TEXT = "text"


class Traces(Section):
    """Spans; OTEL_* variables set endpoint and headers."""

    exporter: Annotated[Choice[Exporter], Setting(Access.UNAFFECTED, restart=True)] = Exporter.NONE
    """Spans; OTEL_* variables say where."""
    sample_ratio: Annotated[float, Field(ge=0, le=1), Setting(Access.UNAFFECTED)] = 1.0
    """Share of calls without parent span."""


class Logs(Section):
    """The decision log as OpenTelemetry log records."""

    exporter: Annotated[Choice[OtlpExporter], Setting(Access.UNAFFECTED, restart=True)] = OtlpExporter.NONE
    """Also export these by OTLP."""


class Metrics(Section):
    """Metrics by OTLP."""

    exporter: Annotated[Choice[OtlpExporter], Setting(Access.UNAFFECTED, restart=True)] = OtlpExporter.NONE
    """Also export these by OTLP."""


class Telemetry(Section):
    """Traces, metrics and logs."""

    traces: Traces = Traces()
    """Spans; OTEL_* variables set endpoint and headers."""
    logs: Logs = Logs()
    """The decision log as OpenTelemetry log records."""
    metrics: Metrics = Metrics()
    """Metrics by OTLP."""
    decisions: Annotated[Choice[Decisions], Setting(Access.UNAFFECTED)] = Decisions.DENIED
    """Logged decisions."""
    max_rule_labels: Annotated[int, Setting(Access.UNAFFECTED, bounds=("0", "10000"))] = 200
    """With more rules, metrics have no rule label."""
    log_level: Annotated[Choice[LogLevel], Setting(Access.UNAFFECTED)] = LogLevel.INFO
    """Least severity logged."""
    log_format: Annotated[Choice[LogFormat], Setting(Access.UNAFFECTED)] = LogFormat.JSON
    """ecs: Elastic Common Schema."""
    log_client: Annotated[bool, Setting(Access.UNAFFECTED)] = True
    """Log address and subject."""
