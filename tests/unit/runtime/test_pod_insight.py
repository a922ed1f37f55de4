"""Proves authz.runtime.pod_insight: the console of several workers shows their sum, and who is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from authz.admin.console.attempt import QuestionError
from authz.admin.routes import AdminRequest, AdminResponse
from authz.admin.server import AdminServer
from authz.config.address import UnixAddress
from authz.runtime.pod_insight import PodInsight
from authz.runtime.workers import Workers
from authz.telemetry.recent import DecisionFilter
from tests.fakes.waiting import wait_until
from tests.unit.envoy.serving import short_folder


@contextmanager
def worker(path: Path, answers: Mapping[str, Any], seen: list[AdminRequest] | None = None) -> Iterator[Path]:
    """Serve *answers* by path on the admin socket of a worker; an answer that is a text is a refusal."""

    def say(request: AdminRequest, answer: object) -> AdminResponse:
        if seen is not None:
            seen.append(request)
        if isinstance(answer, str):
            return AdminResponse(HTTPStatus.BAD_REQUEST, answer.encode())
        return AdminResponse(HTTPStatus.OK, json.dumps(answer).encode())

    def answering(answer: object) -> Any:  # noqa: ANN401 - a route
        return lambda request: say(request, answer)

    admin = AdminServer(UnixAddress(str(path)), {name: answering(answer) for name, answer in answers.items()})
    admin.start()
    try:
        yield path
    finally:
        admin.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as path:
        yield path


@contextmanager
def pod(
    folder: Path, *answers: Mapping[str, Any] | None, seen: list[AdminRequest] | None = None
) -> Iterator[PodInsight]:
    """Yield the console of workers with these answers; None is one that is gone."""
    with ExitStack() as parts:
        sockets = [folder / str(number) for number in range(len(answers))]
        for path, each in zip(sockets, answers, strict=True):
            if each is not None:
                parts.enter_context(worker(path, each, seen))
        workers = Workers(sockets, restarts=[0] * len(sockets))
        wait_until(lambda: len(workers.read("/up")) == sum(each is not None for each in answers))
        if seen is not None:
            seen.clear()
        yield PodInsight(workers)


def step(ends: int, **changes: object) -> dict[str, object]:
    """A step with one denial and one allow, of two durations."""
    return {
        "ends": ends,
        "seconds": 10.0,
        "reasons": {"public": 1, "token_expired": 1},
        "would_deny": 1,
        "durations": [2, 1],
        "cancelled": 1,
        "in_flight": 2,
        "rss_bytes": 1000,
        **changes,
    }


def test_steps_add_up(folder: Path) -> None:
    """Those that end together; one that a single worker has stands alone; who is gone is named."""
    first = {"/up": {}, "/readyz": {}, "/history": {"steps": [step(10), step(20)]}}
    second = {
        "/up": {},
        "/readyz": {},
        "/history": {"steps": [step(20, seconds=12.0, reasons={"public": 5}), step(30)]},
    }
    with pod(folder, first, None, second) as insight:
        shown = insight.history()
    assert shown["silent_workers"] == [1]
    assert shown["waiting_for"] == ["worker 1"]
    steps: Any = shown["steps"]
    assert [each["ends"] for each in steps] == [10, 20, 30]
    assert steps[1] == step(
        20,
        seconds=12.0,
        reasons={"public": 6, "token_expired": 1},
        would_deny=2,
        durations=[4, 2],
        cancelled=2,
        in_flight=4,
        rss_bytes=2000,
    )


def test_decisions_of_all_come_in_order(folder: Path) -> None:
    """The newest first, each with its worker, as many as are wanted; the workers get the filter."""
    seen: list[AdminRequest] = []
    first = {"decisions": [{"at": 5.0}, {"at": 1.0}], "complete_since": 0.5}
    second = {"decisions": [{"at": 3.0}, {"at": 2.0}], "complete_since": 2.0}
    wanted = DecisionFilter(reason="token_expired", subject="a&b", limit=3)
    with pod(folder, {"/up": {}, "/decisions": first}, {"/up": {}, "/decisions": second}, seen=seen) as insight:
        shown = insight.decisions(wanted)
    assert shown["decisions"] == [{"at": 5.0, "worker": 0}, {"at": 3.0, "worker": 1}, {"at": 2.0, "worker": 1}]
    assert shown["complete_since"] == 2.0
    assert {request.query for request in seen} == {"reason=token_expired&subject=a%26b&after=0.0&limit=3"}


def test_pressure_adds_up(folder: Path) -> None:
    """A client that fails at two workers has failed that often."""

    def one(client: str, failures: int) -> dict[str, object]:
        return {
            "in_flight": 2,
            "max_concurrent": 256,
            "lost": {"lines": 1},
            "clients": {"now": [{"client": client, "failures": failures, "error_bound": 1}], "before": []},
            "networks": [{"name": "192.0.2.1", "failures": failures, "last_minute": 1, "throttled": failures // 3}],
            "failing_subjects": [{"name": "a bob", "failures": failures, "last_minute": 0}],
            "subjects": [{"name": "bob", "failures": failures}, {"name": client, "failures": 1}],
            "rules": [],
            "revocations": {"events": failures, client: 1},
            "shared_revocations": {"age": float(failures), "pending": 2, "failure": ""},
            "unknown_kids": {"a": 3},
        }

    found = [one("x", 2), one("x", 3), one("y", 9)]
    with pod(folder, *({"/up": {}, "/pressure": each} for each in found)) as insight:
        shown = insight.pressure()
    assert (shown["in_flight"], shown["max_concurrent"], shown["lost"]) == (6, 768, {"lines": 3})
    assert shown["clients"] == {
        "now": [
            {"client": "y", "failures": 9, "error_bound": 1},
            {"client": "x", "failures": 5, "error_bound": 2},
        ],
        "before": [],
    }
    assert shown["networks"] == [{"name": "192.0.2.1", "failures": 14, "last_minute": 3, "throttled": 4}]
    assert shown["failing_subjects"] == [{"name": "a bob", "failures": 14, "last_minute": 0}]
    assert shown["subjects"] == [
        {"name": "bob", "failures": 14},
        {"name": "x", "failures": 2},
        {"name": "y", "failures": 1},
    ]
    assert shown["unknown_kids"] == {"a": 9}
    assert shown["revocations"] == {"events": 9, "x": 1, "y": 1}  # not summed: all workers have the same
    assert shown["shared_revocations"] == {"age": 9.0, "pending": 6}  # the oldest, and what waits in any


def test_each_worker_explains_by_its_own_keys(folder: Path) -> None:
    """A question that none can understand is refused with what one of them says of it."""
    seen: list[AdminRequest] = []
    said = {"explanations": [{"decision": "allow"}]}
    with pod(folder, {"/up": {}, "POST /explain": said}, {"/up": {}, "POST /explain": said}, seen=seen) as insight:
        shown = insight.explain({"path": "/x" * 40_000})
    assert shown["explanations"] == [{"decision": "allow", "worker": 0}, {"decision": "allow", "worker": 1}]
    assert [len(json.loads(request.body)["path"]) for request in seen] == [80_000, 80_000]
    with pod(folder, {"/up": {}, "POST /explain": "no"}) as insight, pytest.raises(QuestionError, match=r"^no$"):
        insight.explain({})


def test_a_pod_without_workers_says_so(folder: Path) -> None:
    """Its pages are empty; what only a worker knows is not there."""
    with pod(folder, None) as insight:
        assert insight.decisions(DecisionFilter())["silent_workers"] == [0]
        assert insight.history()["steps"] == []
        assert insight.keys() == {"issuers": [], "silent_workers": [0]}
        with pytest.raises(QuestionError, match="no worker answers"):
            insight.explain({})
        with pytest.raises(OSError, match="no worker answers"):
            insight.configuration({})


def test_the_configuration_is_that_of_any_worker(folder: Path) -> None:
    """They have the same; the query goes along."""
    seen: list[AdminRequest] = []
    with pod(folder, None, {"/up": {}, "/configuration": {"file": "f"}}, seen=seen) as insight:
        assert insight.configuration({"rules": "50"}) == {"file": "f", "silent_workers": [0]}
    assert [request.query for request in seen] == ["rules=50"]
