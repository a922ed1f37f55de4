"""The one controller that Helm waits for: it runs the Jobs of hooks, and says how they ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

from tests.chart.helm import Document
from tests.cluster.apiserver import Cluster, Refused
from tests.cluster.kubelet import pod_of, run_once

_POLL_SECONDS = 0.2


@contextmanager
def running_jobs(cluster: Cluster, namespace: str) -> Iterator[list[str]]:
    """Run every Job that comes into a namespace; yield the outputs of those that have ended."""
    over, outputs = threading.Event(), list[str]()
    asked = ("get", "jobs", "--namespace", namespace, "--output", "json")

    def watch() -> None:
        while not over.wait(_POLL_SECONDS):
            for job in json.loads(cluster.kubectl(*asked))["items"]:
                if not job.get("status", {}).get("conditions"):
                    outputs.append(_run(cluster, job))

    with ThreadPoolExecutor(1, "jobs") as pool:
        watching = pool.submit(watch)
        try:
            yield outputs
        finally:
            over.set()
            watching.result()


def _run(cluster: Cluster, job: Document) -> str:
    namespace, name, started = job["metadata"]["namespace"], job["metadata"]["name"], _now()
    succeeded, output = run_once(cluster, pod_of(job, f"{name}-0"))
    kinds = ("SuccessCriteriaMet", "Complete") if succeeded else ("FailureTarget", "Failed")
    said = {"status": "True", "reason": "Ended", "message": "", "lastTransitionTime": _now(), "lastProbeTime": _now()}
    status = {
        "startTime": started,
        "conditions": [{"type": kind, **said} for kind in kinds],
        "uncountedTerminatedPods": {},
        **({"succeeded": 1, "completionTime": _now()} if succeeded else {"failed": 1}),
    }
    patch = ("--subresource", "status", "--type", "merge", "--patch", json.dumps({"status": status}))
    try:
        cluster.kubectl("patch", "job", name, "--namespace", namespace, *patch)
    except Refused as refused:
        if "not found" not in str(refused):  # Helm has removed it meanwhile
            raise
    return output


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
