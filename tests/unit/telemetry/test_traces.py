"""Proves authz.telemetry.traces: the standard variables say where spans go, and what cannot be is said."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from authz.config.telemetry import Exporter
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.otlp import ExportError
from authz.telemetry.spans import Spans
from authz.telemetry.traces import start_spans
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import ask, decide


def start(exporter: Exporter = Exporter.OTLP, **environment: str) -> Spans | None:
    """Start to export to nowhere, in an environment."""
    return start_spans(exporter, keys_age=lambda _: None, dropped=lambda _: None, environment=environment)


def test_none_is_none() -> None:
    """No exporter, or the whole SDK switched off: nothing is started."""
    assert start(Exporter.NONE) is None
    assert start(OTEL_SDK_DISABLED=" TRUE ") is None


@pytest.mark.parametrize("environment", [{}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}])
def test_grpc_is_the_default(environment: dict[str, str]) -> None:
    """And may be said; starting connects to no one, so that a collector may come later."""
    spans = start(Exporter.OTLP, **environment)
    assert spans is not None
    spans.stop()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' is not supported; use grpc or http/protobuf",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "x"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'x' is not supported; use grpc or http/protobuf",
        ),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "OTEL_BSP_MAX_QUEUE_SIZE: 'many' is not a number of spans"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "invalid OTEL_* environment variables: max_queue_size"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str) -> None:
    """Rather than exporting to nowhere in silence."""
    with pytest.raises(ExportError) as error:
        start(Exporter.OTLP, **environment)
    assert str(error.value).startswith(message)


def run(code: str, **environment: str) -> str:
    """Run code in a Python of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    return done.stdout


def test_http_needs_its_package() -> None:
    """Where the exporter is not installed, the message says which package is missing."""
    code = """
import sys
sys.modules["opentelemetry.exporter.otlp.proto.http"] = None
from authz.config.telemetry import Exporter
from authz.telemetry.otlp import ExportError
from authz.telemetry.traces import start_spans
try:
    start_spans(Exporter.OTLP, keys_age=lambda _: None, dropped=lambda _: None)
except ExportError as error:
    print(error)
"""
    message = run(code, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
    assert "needs the Python package opentelemetry-exporter-otlp-proto-http" in message


def test_nothing_is_imported_without_an_exporter() -> None:
    """The SDK takes its time to import: who traces nothing does not wait for it."""
    code = """
import sys
import authz.runtime.app
from authz.config.telemetry import Exporter
from authz.telemetry.traces import start_spans
start_spans(Exporter.NONE, keys_age=lambda _: None, dropped=lambda _: None)
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert run(code) == "[]\n"


def test_the_console_shows_a_span_a_line() -> None:
    """For trying out: JSON lines on standard output, with the resource of the environment."""
    code = """
from authz.config.telemetry import Exporter
from authz.core.decision import Deny
from authz.core.reasons import Reason
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.traces import start_spans
spans = start_spans(Exporter.CONSOLE, keys_age=lambda _: None, dropped=lambda _: None)
for _ in range(2):
    spans.write_check(CheckRecord(Deny(Reason.TOKEN_MISSING), "id1", None, 0.0), None)
spans.stop(seconds=300)
"""
    for environment, name in (({}, "authz"), ({"OTEL_SERVICE_NAME": "mine"}, "mine")):
        lines = run(code, OTEL_RESOURCE_ATTRIBUTES="k8s.pod.name=p1", **environment).splitlines()
        assert len(lines) == 2
        span = json.loads(lines[0])
        assert span["attributes"]["authz.reason"] == "token_missing"
        resource = span["resource"]["attributes"]
        assert (resource["service.name"], resource["k8s.pod.name"]) == (name, "p1")


def test_a_span_can_be_written_with_no_collector_there() -> None:
    """No one waits for it."""
    spans = start()
    assert spans is not None
    assert spans.write_check(CheckRecord(decide(), "id1", ask(), 0.0), None) is not None
    spans.stop()


_THREE_INSTANCES = """
import os
from authz.telemetry.otlp import our_resource
for _ in range(2):
    pid = os.fork()
    if not pid:
        break
    os.waitpid(pid, 0)
print(our_resource().attributes["service.instance.id"], flush=True)
"""


def test_each_forked_worker_is_an_instance_of_its_own() -> None:
    """One id for all would mix up the metrics of workers that are forked after the modules were imported."""
    ids = subprocess.check_output([sys.executable, "-c", _THREE_INSTANCES], text=True, timeout=HANG_SECONDS).split()
    assert (len(ids), len(set(ids))) == (3, 3)
