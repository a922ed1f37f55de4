"""Proves that no output contains a token: the whole corpus of attacks is evaluated, and every word of output is read.

Outputs are log lines at debug level in both forms, summaries included, spans, metrics in both forms, and what a denied
client and Envoy's dynamic metadata get. What the upstream gets is the operator's choice, and no output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.exposition import choose_encoder

from authz.core.request import Request
from authz.core.snapshot import Responses, Snapshot
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.metrics import Metrics
from authz.telemetry.report import Reporting, reporter
from authz.telemetry.spans import Spans
from tests.cases.test_decisions import CASES
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import DEFAULT_SNAPSHOT, T, ask, mint
from tests.unit.envoy.asking import check, read, write_check
from tests.unit.telemetry import hostile
from tests.unit.telemetry.capturing import logging_to

SHORTEST: Final = 16  # characters of a segment that could be anything
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")
_PARENT: Final = (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"), ("tracestate", f"a={mint()}"))


@dataclass
class Outputs:
    """Everything that was written."""

    log: str = ""
    spans: list[str] = field(default_factory=list)
    metrics: str = ""
    answers: list[str] = field(default_factory=list)

    def texts(self) -> list[str]:
        """All of it."""
        return [self.log, "\n".join(self.spans), self.metrics, "\n".join(self.answers)]


def misplaced() -> Iterator[Request]:
    """Yield tokens where no token belongs: clients put them everywhere."""
    good, bad = mint(), mint(aud="other")
    for token in (good, bad, f"Bearer {good}", good.replace(".", "%2E"), good[:-20], f"{'x/' * 95}{good}"):
        yield ask(path=f"/items/{token}")
        yield ask(path=f"/items/1;token={token}")
        yield ask(path=f"/items/1?access_token={token}#{token}")
        yield ask(method=token)
        yield ask(host=token)
        yield ask(host=f"{token}.api.test")
        yield ask(source_address=token)
        yield ask(headers={"x-request-id": token, "traceparent": token, "tracestate": token, "user-agent": token})
        yield ask(mint(header={"kid": token[:1000]}))
        yield ask(mint(header={"alg": token}))
        yield ask(mint(iss=token))
        yield ask(mint(aud=[token]))


def corpus() -> Iterator[tuple[Request, Snapshot, float]]:
    """Yield every request of every table and attack, the snapshot and the instant of the decision."""
    for request in (*hostile.requests(), *misplaced()):
        yield request, DEFAULT_SNAPSHOT, float(T)
    for case in CASES:
        with suppress(UnicodeEncodeError):  # lone surrogates do not travel in protobuf
            write_check(case.request)
            yield case.request, case.snapshot, case.now


def segments() -> set[str]:
    """Return every segment of every token in the corpus that is too long to be a word."""
    found = set()
    for request, _, _ in corpus():
        for text in (request.path, request.method, request.host, *request.headers.values()):
            for word in _WORD.findall(text):
                parts = word.split(".")
                if len(parts) > 2:
                    found |= {segment for segment in parts if len(segment) >= SHORTEST}
    return found


def _same(value: Any) -> Any:  # noqa: ANN401 - of any type
    """Return *value*."""
    return value


@pytest.fixture(scope="module", params=["json", "text"])
def outputs(request: pytest.FixtureRequest) -> Outputs:
    """What is written when the corpus is evaluated, with everything on."""
    told, memory = Outputs(), InMemorySpanExporter()
    metrics = Metrics(insecure_options=0, label_rules=True)
    spans = Spans(
        memory,
        resource=Resource({}),
        max_waiting=100_000,
        pause_millis=10.0,
        now_ns=lambda: T * 10**9,
        keys_age=lambda _: 1.0,
        dropped=metrics.count_dropped_spans,
    )
    decisions = DecisionLog(metrics, monotonic=lambda: 0.0, max_lines=100_000)
    reporting = Reporting(decisions="all", log_client=True, trust_client=True)
    report = reporter(metrics, decisions, reporting, spans=spans)
    with logging_to(request.param, level="debug") as stream:
        for asked, snapshot, now in corpus():
            open_one = replace(snapshot, responses=Responses(expose_reason=True))
            parts: dict[str, Any] = {"snapshot": partial(_same, open_one), "now": partial(_same, now), "report": report}
            answer = read(check(write_check(asked), metadata=_PARENT, **parts))
            told.answers.append(f"{answer.denied_response}{answer.error_response}{answer.dynamic_metadata}")
        decisions.summarise(name_clients=True)
    spans.stop(seconds=HANG_SECONDS)
    told.log = stream.getvalue()
    told.spans = [span.to_json() for span in memory.get_finished_spans()]
    for accept in ("", "application/openmetrics-text"):
        told.metrics += choose_encoder(accept)[0](metrics.registry).decode()
    return told


def test_no_segment_of_any_token_is_told(outputs: Outputs) -> None:
    """Neither header, payload nor signature, neither whole nor its beginning or end; good tokens and bad."""
    parts = {part for segment in segments() for part in (segment[:40], segment[-40:])}
    assert len(parts) > 500
    for text in outputs.texts():
        assert [part for part in parts if part in text] == []


def test_everything_was_told(outputs: Outputs) -> None:
    """That was no silence: each request has a line, a span and an answer, each reason its number."""
    number = len(list(corpus()))
    assert len(outputs.answers) == len(outputs.spans) == number
    assert outputs.log.count("\n") >= number
    reasons = {json.loads(span)["attributes"]["authz.reason"] for span in outputs.spans}
    assert len(reasons) > 20
    assert all(f'reason="{reason}"' in outputs.metrics for reason in reasons)
    assert "internal_error" not in reasons
    assert "[token]" in outputs.log
