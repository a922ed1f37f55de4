"""Combine the admin responses of several workers: probes, metrics and keys.

Rules of this file:
1. A worker whose response is incomplete or late is omitted and reported as missing.
2. Ready means that all workers are ready.
3. Nothing is summed: every sample and every key set is labelled with its worker.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from authz.runtime.worker_sockets import WorkerResponse, request_all
from authz.telemetry import names

READY_SECONDS: Final = 0.75  # for one probe; the kubelet's default timeout is one second
SECONDS: Final = 2.0  # for metrics and keys

_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"  # the only format with exemplars


class Workers(Collector):
    """The admin sockets of all workers by number; *restarts* are the restart counts."""

    def __init__(self, sockets: Sequence[Path], *, restarts: Sequence[int]) -> None:
        self._sockets: Final = sockets
        self._restarts: Final = restarts

    def waiting_for(self) -> list[str]:
        """List what readiness still waits for, worker by worker."""
        answers = request_all(self._sockets, "/readyz", seconds=READY_SECONDS)
        missing = []
        for number in range(len(self._sockets)):
            answer = answers.get(number)
            if answer is None:
                missing.append(f"worker {number}")
            elif answer.status != HTTPStatus.OK:
                missing_there = answer.body.decode("utf-8", "replace").strip().removeprefix("waiting for ")
                missing.append(f"worker {number} ({missing_there})")
        return missing

    def describe_keys(self) -> dict[str, object]:
        """Describe the keys of each issuer in each worker, by issuer, and list the workers that do not answer."""
        answers = request_all(self._sockets, "/keys", seconds=SECONDS)
        described = [
            (position, number, {**issuer, "worker": number})
            for number, answer in sorted(answers.items())
            for position, issuer in enumerate(json.loads(answer.body)["issuers"])
        ]
        described.sort(key=lambda line: line[:2])
        return {"issuers": [issuer for _, _, issuer in described], "silent_workers": self.silent(answers)}

    def refresh_keys(self, issuer: str | None) -> dict[str, object] | None:
        """Make every worker fetch the keys of an issuer, or of all; list the issuers and the silent workers."""
        query = "" if issuer is None else f"?{urlencode({'issuer': issuer})}"
        answers = request_all(self._sockets, f"/keys/refresh{query}", seconds=SECONDS, method="POST")
        begun = [
            json.loads(answer.body)["issuers"] for answer in answers.values() if answer.status == HTTPStatus.ACCEPTED
        ]
        if answers and not begun:
            return None
        return {"issuers": list(dict.fromkeys(chain.from_iterable(begun))), "silent_workers": self.silent(answers)}

    def read(self, target: str, query: Mapping[str, object] | None = None) -> dict[int, Any]:
        """Return the JSON data that each worker answers at *target*; a worker that has none is left out."""
        target_with_query = f"{target}?{urlencode(query)}" if query else target
        return documents(request_all(self._sockets, target_with_query, seconds=SECONDS))

    def post(self, target: str, data: object) -> dict[int, WorkerResponse]:
        """Post *data*, as JSON, to each worker."""
        return request_all(self._sockets, target, seconds=SECONDS, method="POST", body=json.dumps(data).encode())

    def post_to_one(self, target: str, body: bytes = b"") -> WorkerResponse | None:
        """Post *body* to the first worker that answers, and return its answer; None if none does."""
        for socket in self._sockets:
            replies = request_all([socket], target, seconds=SECONDS, method="POST", body=body)
            if replies:
                return replies[0]
        return None

    def silent(self, answered: Container[int]) -> list[int]:
        """List the workers that did not answer."""
        return [number for number in range(len(self._sockets)) if number not in answered]

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of all workers, each with the label `worker`, and those about the workers themselves."""
        answers = request_all(self._sockets, "/metrics", seconds=SECONDS, accept=_OPENMETRICS)
        up = GaugeMetricFamily(names.WORKER_UP, "Whether this worker answered.", labels=["worker"])
        restarts = CounterMetricFamily(
            names.WORKER_RESTARTS_TOTAL, "Restarts of a worker that ended.", labels=["worker"]
        )
        for number, count in enumerate(self._restarts):
            up.add_metric([str(number)], number in answers)
            restarts.add_metric([str(number)], count)
        yield up
        yield restarts
        yield from merge({number: answer.body.decode() for number, answer in answers.items()})


def documents(answers: Mapping[int, WorkerResponse]) -> dict[int, Any]:
    """Return the JSON data of the answers that are OK."""
    return {
        number: json.loads(answer.body) for number, answer in sorted(answers.items()) if answer.status == HTTPStatus.OK
    }


def merge(expositions: Mapping[int, str]) -> Iterable[Metric]:
    """Merge OpenMetrics texts into one family of each name; each sample gets the label `worker`."""
    families: dict[str, Metric] = {}
    for number, text in sorted(expositions.items()):
        for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]  # it has no types
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            merged.samples += [
                sample._replace(labels={**sample.labels, "worker": str(number)}) for sample in family.samples
            ]
    return families.values()
