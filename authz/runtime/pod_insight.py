"""The data of all workers together, for the console."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from authz.admin.console.attempt import QuestionError
from authz.runtime.workers import Workers, documents
from authz.telemetry import names
from authz.telemetry.recent import DecisionFilter

_SUMMED: Final = ("would_deny", "cancelled", "in_flight", "rss_bytes")


class PodInsight:
    """Answers the console from all workers: an `authz.admin.console.routes.ConsoleSource`.

    A worker that does not answer is left out, and reported as missing.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers: Final = workers

    def history(self) -> dict[str, object]:
        """Return the last hour: the sums of each step."""
        by_worker = self._workers.read("/history")
        steps: dict[int, dict[str, Any]] = {}
        for step in (step for document in by_worker.values() for step in document["steps"]):
            sums = steps.setdefault(
                step["ends"],
                {"ends": step["ends"], "seconds": step["seconds"], "reasons": {}, "durations": [], **_zeros()},
            )
            sums["seconds"] = max(sums["seconds"], step["seconds"])
            sums["reasons"] = dict(Counter(sums["reasons"]) + Counter(step["reasons"]))
            sums["durations"] = [
                old + new
                for old, new in zip(sums["durations"] or [0] * len(step["durations"]), step["durations"], strict=True)
            ]
            for name in _SUMMED:
                sums[name] += step[name]
        return {
            "buckets": list(names.DURATION_BUCKETS),
            "steps": [step for _, step in sorted(steps.items())],
            "waiting_for": self._workers.waiting_for(),
            **self._silent(by_worker),
        }

    def keys(self) -> dict[str, object]:
        """Return the keys of all issuers in each worker."""
        return self._workers.describe_keys()

    def decisions(self, wanted: DecisionFilter) -> dict[str, object]:
        """Return the *wanted* decisions of all workers, the newest first."""
        query = {name: value for name, value in asdict(wanted).items() if value not in {"", float("inf")}}
        by_worker = self._workers.read("/decisions", query)
        every = [
            {**decision, "worker": number}
            for number, document in by_worker.items()
            for decision in document["decisions"]
        ]
        every.sort(key=lambda decision: decision["at"], reverse=True)
        return {
            "decisions": every[: wanted.limit],
            "complete_since": max((document["complete_since"] for document in by_worker.values()), default=0.0),
            **self._silent(by_worker),
        }

    def configuration(self, query: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the configuration in use, of the first worker that answers. Raises OSError if none does."""
        by_worker = self._workers.read("/configuration", query)
        if not by_worker:
            raise OSError("no worker answers")
        return {**next(iter(by_worker.values())), **self._silent(by_worker)}

    def pressure(self) -> dict[str, object]:
        """Return the sums of the most frequent failures, the load and the losses."""
        by_worker = self._workers.read("/pressure")
        documents = by_worker.values()
        return {
            "in_flight": sum(document["in_flight"] for document in documents),
            "max_concurrent": sum(document["max_concurrent"] for document in documents),
            "lost": _add(document["lost"] for document in documents),
            "clients": {
                period: _add_up((item for document in documents for item in document["clients"][period]), "client")
                for period in ("now", "before")
            },
            **{
                kind: _add_up((item for document in documents for item in document[kind]), "name")
                for kind in ("networks", "failing_subjects")
            },
            "subjects": _add_up((item for document in documents for item in document["subjects"]), "name"),
            "rules": _add_up((item for document in documents for item in document["rules"]), "name"),
            "revocations": _most(document["revocations"] for document in documents),  # all have the same
            "shared_revocations": _worst(document["shared_revocations"] for document in documents),
            "unknown_kids": _add(document["unknown_kids"] for document in documents),
            **self._silent(by_worker),
        }

    def explain(self, question: Mapping[str, Any]) -> dict[str, object]:
        """Return the explanation of each worker: their keys may differ. Raises QuestionError."""
        answers = self._workers.post("/explain", dict(question))
        answered = {number: answer for number, answer in answers.items() if answer.status == HTTPStatus.OK}
        if not answered:
            error = next((answer.body.decode("utf-8", "replace").strip() for answer in answers.values()), None)
            raise QuestionError(error or "no worker answers")
        explanations = [
            {**explanation, "worker": number}
            for number, document in documents(answered).items()
            for explanation in document["explanations"]
        ]
        return {"explanations": explanations, **self._silent(answered)}

    def refresh(self, issuer: str | None) -> Mapping[str, object] | None:
        """Make every worker fetch the keys of an issuer; None if no worker has a feed of that name."""
        return self._workers.refresh_keys(issuer)

    def _silent(self, by_worker: Mapping[int, object]) -> dict[str, object]:
        return {"silent_workers": self._workers.silent(by_worker)}


def _zeros() -> dict[str, int]:
    return dict.fromkeys(_SUMMED, 0)


def _add(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for numbers in counts:
        for name, count in numbers.items():
            total[name] = total.get(name, 0) + count
    return total


def _most(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    most: dict[str, int] = {}
    for numbers in counts:
        most = {name: max(most.get(name, 0), numbers.get(name, 0)) for name in {**most, **numbers}}
    return most


def _worst(states: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Return the age of what was read longest ago, and how many events wait in all workers; None without sharing."""
    known = [state for state in states if state is not None]
    if not known:
        return None
    ages = [state["age"] for state in known]
    return {"age": None if None in ages else max(ages), "pending": sum(state["pending"] for state in known)}


def _add_up(ranked: Iterable[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the sums of entries with the same *name*, the most frequent first."""
    total: dict[str, dict[str, Any]] = {}
    for item in ranked:
        sums = total.setdefault(item[name], {name: item[name]})
        for key in item.keys() - {name}:
            sums[key] = sums.get(key, 0) + item[key]
    return sorted(total.values(), key=lambda sums: (-sums["failures"], sums[name]))
