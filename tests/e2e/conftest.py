"""Stages for the tests of this folder; the logs of a stage are shown with a test that failed on it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from authz.demo.process import tail
from tests.e2e.harness import Stage, set_stage

_USED = pytest.StashKey[list[Stage]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs Envoy."""
    here = f"{Path(__file__).parent}/"
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.needs("envoy"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test had to say."""
    report = yield
    if report.failed:
        for stage in item.stash.get(_USED, []):
            report.sections.extend((str(log), "\n".join(tail(log, lines=20))) for log in stage.logs)
    return report


@pytest.fixture(scope="session")
def shared_stage() -> Iterator[Stage]:
    """One stage for all tests that leave it as they found it."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(Path(folder)) as stage:
        yield stage


@pytest.fixture
def stage(shared_stage: Stage, request: pytest.FixtureRequest) -> Stage:
    """The shared stage."""
    request.node.stash[_USED] = [shared_stage]
    return shared_stage


@pytest.fixture
def own_stage(request: pytest.FixtureRequest) -> Iterator[Callable[..., Stage]]:
    """Set a stage of the test's own, with the differences that `set_stage` takes."""
    with ExitStack() as stages:

        def set_own(**differences: Any) -> Stage:  # noqa: ANN401 - as set_stage takes them
            # A short path, for a Unix socket has room for 107 bytes.
            folder = Path(stages.enter_context(tempfile.TemporaryDirectory(prefix="authz-")))
            stage = stages.enter_context(set_stage(folder, **differences))
            request.node.stash.setdefault(_USED, []).append(stage)
            return stage

        yield set_own
