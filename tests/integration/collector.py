"""A real collector: rotel, which takes OTLP over gRPC and writes down what it got."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from authz.demo.process import Process, tail
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.tools import path

_ATTRIBUTE = re.compile(r" +-> (?P<name>[^:]+): \w+\((?P<value>.*)\)")
_FIELD = re.compile(r" +(?P<name>[A-Z][A-Za-z ]*?) *: (?P<value>.*)")


@dataclass(frozen=True, slots=True)
class Span:
    """A span as the collector got it; `parent_id` is empty for a root, `service` the resource's name."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    status: str
    resource: dict[str, str]
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def service(self) -> str:
        return self.resource.get("service.name", "")


class Collector:
    """One rotel, and what it got so far."""

    def __init__(self, folder: Path, *, signals: str = "traces") -> None:
        self.address, self.http = free_address(), free_address()
        argv = [
            *(f"{path('rotel')}/rotel/rotel-agent", "start", "--exporter", "blackhole"),
            *("--otlp-grpc-endpoint", self.address, "--otlp-http-endpoint", self.http),
            *("--debug-log", signals, "--debug-log-verbosity", "detailed"),
            *("--log-file", str(folder / "rotel.log"), "--pid-file", str(folder / "rotel.pid")),
        ]
        self.process = Process("the collector", argv, log=folder / "collector.log", fix="read its log")

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def accepts(self) -> bool:
        """Whether it listens."""
        host, _, port = self.address.rpartition(":")
        with closing(socket.socket()) as probe:
            return probe.connect_ex((host, int(port))) == 0

    def text(self) -> str:
        """All that it wrote."""
        return self.process.log.read_text(encoding="utf-8", errors="replace")

    def spans(self) -> list[Span]:
        """Every span so far."""
        return list(_read(self.text().splitlines()))

    def await_spans(self, **attributes: str) -> list[Span]:
        """Wait for spans with these attributes, dots of their names written as `__`, and return them."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}

        def found() -> list[Span]:
            return [span for span in self.spans() if wanted.items() <= span.attributes.items()]

        wait_until(lambda: bool(found()))
        return found()

    def await_trace(self, trace_id: str, number: int) -> list[Span]:
        """Wait for so many spans of one trace, and return them."""

        def found() -> list[Span]:
            return [span for span in self.spans() if span.trace_id == trace_id]

        wait_until(lambda: len(found()) >= number)
        return found()


@contextmanager
def collecting(folder: Path, *, signals: str = "traces") -> Iterator[Collector]:
    """Start a collector that writes down *signals*, and end it; its log is shown where a test fails."""
    collector = Collector(folder, signals=signals)
    collector.process.start()
    try:
        collector.process.wait_until(collector.accepts)
        yield collector
    except BaseException:
        print("\n".join(tail(collector.process.log, lines=60)))  # noqa: T201 - shown with the failure
        raise
    finally:
        collector.process.kill()


def _read(lines: list[str]) -> Iterator[Span]:
    """Read the detailed form of rotel's debug log."""
    resource: dict[str, str] = {}
    fields: dict[str, str] = {}
    attributes: dict[str, str] = {}
    into = resource
    for line in [*lines, "Span #"]:
        if line.startswith(("ResourceSpans #", "Span #")):
            if "Kind" in fields:  # else it is being written
                yield Span(
                    fields["Trace ID"],
                    fields["ID"],
                    fields["Parent ID"],
                    fields["Name"],
                    fields["Kind"].removeprefix("SPAN_KIND_"),
                    fields.get("Status code", "UNSET").removeprefix("STATUS_CODE_"),
                    resource,
                    attributes,
                )
            fields, attributes = {}, {}
            if line.startswith("ResourceSpans #"):
                into = resource = {}
        elif line.startswith("Attributes:"):
            into = attributes
        elif match := _ATTRIBUTE.fullmatch(line):
            into[match["name"]] = match["value"]
        elif line.startswith(" ") and (match := _FIELD.fullmatch(line)):
            fields[match["name"]] = match["value"]
