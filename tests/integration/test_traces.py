"""Proves traces with a real Envoy and a real collector: one trace through both, kept whole or not at all."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from authz.demo.bootstrap import Proxy
from authz.demo.client import Answer, send
from authz.demo.envoy import Envoy
from authz.demo.loopback import Header
from authz.demo.sidecar import Sidecar
from authz.demo.upstream import echo_server
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.integration.collector import Collector, Span, collecting
from tests.integration.sidecars import Running, config, issuer, running
from tests.unit.envoy.serving import short_folder

pytestmark = [pytest.mark.needs("envoy", "rotel"), pytest.mark.xdist_group("traces")]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that takes part in a trace."""

    idp: FakeIdp
    sidecar: Sidecar
    envoy: Envoy
    collector: Collector

    def ask(self, token: str | None = None, path: str = "/items/1", *, headers: tuple[Header, ...] = ()) -> Answer:
        """Send a request to Envoy."""
        bearer = () if token is None else (("Authorization", f"Bearer {token}"),)
        return send(f"{self.envoy.url}{path}", headers=(*headers, *bearer))

    def await_trace(self, trace_id: str, number: int) -> list[Span]:
        """Wait for so many spans of one trace. Envoy sends its spans by fives, or after five seconds."""
        for _ in range(3):
            self.ask()
        return self.collector.await_trace(trace_id, number)

    def line(self, name: str, value: object) -> dict[str, object]:
        """Wait for the one line of the decision log with this value: lines are written on a thread of their own."""
        wait_until(lambda: self._lines(name, value) != [])
        (line,) = self._lines(name, value)
        return line

    def _lines(self, name: str, value: object) -> list[dict[str, object]]:
        whole = self.sidecar.process.log.read_text().rpartition("\n")[0]
        lines = map(json.loads, whole.splitlines())
        return [line for line in lines if line["logger"] == "authz.decisions" and line.get(name) == value]


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables for the processes that are started."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One stage for all tests of this file."""
    with ExitStack() as parts:
        folder = parts.enter_context(short_folder())
        idp, upstream = parts.enter_context(FakeIdp()), parts.enter_context(echo_server())
        collector = parts.enter_context(collecting(folder))
        parts.enter_context(
            environment(
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
                OTEL_BSP_SCHEDULE_DELAY="100",
                OTEL_RESOURCE_ATTRIBUTES="k8s.pod.name=orders-1,k8s.namespace.name=shop",
            )
        )
        socket, admin = folder / "authz.sock", free_address()
        text = config(issuer("a", idp), listen=f"unix:{socket}", admin=admin) + "  traces: {exporter: otlp}\n"
        sidecar = Sidecar(text, admin=admin, folder=folder)
        proxy = Proxy(
            upstream=f"127.0.0.1:{upstream.port}",
            sidecars=(f"unix:{socket}",),
            timeout_ms=60_000,
            trace_collector=collector.address,
        )
        envoy = Envoy(proxy, folder)
        parts.callback(sidecar.process.kill)
        parts.callback(envoy.process.kill)
        sidecar.start()
        envoy.start()
        yield Stage(idp, sidecar, envoy, collector)


def by_kind(spans: list[Span], service: str, kind: str) -> Span:
    """The one span of a service and a kind, upstream calls aside."""
    (found,) = [span for span in spans if (span.service, span.kind) == (service, kind) and "upstream" not in span.name]
    return found


def test_envoy_and_sidecar_are_in_one_trace(stage: Stage) -> None:
    """Envoy's span of the request, its span of the call, and the sidecar's: each is the parent of the next."""
    assert stage.ask(stage.idp.mint()).status == 200
    (ours,) = stage.collector.await_spans(authz__reason="authenticated")[:1]
    spans = stage.await_trace(ours.trace_id, 3)
    ids = {span.span_id: span for span in spans}
    call = ids[ours.parent_id]
    ingress = ids[call.parent_id]
    assert (ours.service, ours.kind, ours.status) == ("authz", "SERVER", "UNSET")
    assert (call.service, call.kind) == ("front", "CLIENT")
    assert (ingress.service, ingress.kind, ingress.parent_id) == ("front", "SERVER", "")
    assert (ours.attributes["authz.issuer"], ours.attributes["authz.rule"]) == ("a", "items")
    assert ours.resource["k8s.pod.name"] == "orders-1"


def test_a_denial_is_found_by_what_the_client_was_told(stage: Stage) -> None:
    """From the problem body to the span and to the log line: decision id, trace id and reason are the same in all."""
    answer = stage.ask(stage.idp.mint() + "x")
    assert answer.status == 401
    decision_id = answer.json()["decision_id"]
    (span,) = stage.collector.await_spans(authz__decision_id=decision_id)
    assert (span.attributes["authz.decision"], span.attributes["authz.reason"]) == ("deny", "token_malformed")
    assert (span.attributes["http.response.status_code"], span.status) == ("401", "UNSET")
    line = stage.line("decision_id", decision_id)
    assert (line["reason"], line["trace_id"], line["span_id"]) == ("token_malformed", span.trace_id, span.span_id)


def test_the_sampled_bit_is_obeyed(stage: Stage) -> None:
    """A trace that is not kept has no span of ours, and its id is in the log all the same; one that is kept has one."""
    for flags, trace_id in (("00", TRACE), ("01", TRACE[::-1])):
        answer = stage.ask(headers=(("traceparent", f"00-{trace_id}-{PARENT}-{flags}"),))
        assert answer.status == 401
    spans = stage.await_trace(TRACE[::-1], 3)
    assert by_kind(spans, "authz", "SERVER").attributes["authz.reason"] == "token_missing"
    assert not [span for span in stage.collector.spans() if span.trace_id == TRACE]
    line = stage.line("trace_id", TRACE)
    assert "span_id" not in line


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_tracestate_decides_nothing(stage: Stage, size: int) -> None:
    """Empty, or of 20 KB that a client chose: the request is evaluated, its span has its parent."""
    trace_id = f"{size + 1:032x}"
    state = f"a={'x' * size}" if size else ""
    headers = (("traceparent", f"00-{trace_id}-{PARENT}-01"), ("tracestate", state))
    assert stage.ask(stage.idp.mint(), headers=headers).status == 200
    spans = stage.await_trace(trace_id, 3)
    assert by_kind(spans, "authz", "SERVER").parent_id in {span.span_id for span in spans}


def test_a_refresh_of_keys_is_a_trace_of_its_own(stage: Stage) -> None:
    """A root span says which issuer was asked, and what came of it."""
    (span, *_) = stage.collector.await_spans(authz__keys__refresh__result="updated")
    assert (span.kind, span.parent_id, span.service) == ("CLIENT", "", "authz")
    assert span.attributes["authz.issuer"] == "a"


def dropped(sidecar: Running) -> float:
    """How many spans were lost."""
    lines = sidecar.admin("/metrics")[1].decode().splitlines()
    (line,) = [line for line in lines if line.startswith("authz_spans_dropped_total ")]
    return float(line.split()[1])


@contextmanager
def tracing_to(url: str, folder: Path, idp: FakeIdp) -> Iterator[Running]:
    """Start a sidecar that traces every call to *url*, with room for ten spans."""
    few = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with (
        environment(OTEL_EXPORTER_OTLP_ENDPOINT=url, **few),
        running(folder, issuer("a", idp), drain="2s", telemetry="traces: {exporter: otlp}") as sidecar,
    ):
        sidecar.await_ready()
        yield sidecar


def test_a_collector_that_is_away_holds_up_nobody() -> None:
    """Checks are answered, what finds no room is counted, and the end comes within the drain and a second."""
    with (
        short_folder() as folder,
        FakeIdp() as idp,
        tracing_to(f"http://{free_address()}", folder, idp) as sidecar,
    ):
        for _ in range(100):
            assert sidecar.check(idp.mint()) == "authenticated"
        assert dropped(sidecar) >= 80
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.await_end() == 0


def test_what_waits_at_the_end_still_goes_out() -> None:
    """The spans of the last calls before SIGTERM arrive."""
    with short_folder() as folder, FakeIdp() as idp, collecting(folder) as collector:
        with tracing_to(collector.url, folder, idp) as sidecar:
            assert sidecar.check(path="/public/1") == "public"
            sidecar.send_signal(signal.SIGTERM)
            assert sidecar.await_end() == 0
        collector.await_spans(authz__reason="public")


def test_a_protocol_that_nobody_speaks_ends_the_start() -> None:
    """With a message that names the variable, rather than with spans that go nowhere."""
    with (
        short_folder() as folder,
        FakeIdp() as idp,
        environment(OTEL_EXPORTER_OTLP_PROTOCOL="carrier-pigeon"),
    ):
        admin = free_address()
        text = config(issuer("a", idp), listen=f"unix:{folder}/authz.sock", admin=admin)
        sidecar = Sidecar(text + "  traces: {exporter: otlp}\n", admin=admin, folder=folder)
        sidecar.process.start()
        try:
            wait_until(lambda: sidecar.process.status is not None)
        finally:
            sidecar.process.kill()
        assert sidecar.process.status == 3
        assert "OTEL_EXPORTER_OTLP_PROTOCOL: 'carrier-pigeon' is not supported" in sidecar.process.log.read_text()
