"""What every test may use."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator
from functools import cache
from typing import Final

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it is compiled
from hypothesis import HealthCheck, settings

from authz.cli.serve import READ_WHILE_POLLING
from tests import tools
from tests.leaks import Leaks

# A shell starts background jobs with some signals ignored, and their children ignore them too: a test
# that interrupts a command would hang.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)


def _read_while_polling() -> None:
    """Let servers in this process be as on a Unix socket; those that tests start decide for themselves."""
    before = {name: os.environ.get(name) for name in READ_WHILE_POLLING}
    os.environ.update(READ_WHILE_POLLING)
    cygrpc.Server((), False)  # noqa: FBT003 - gRPC's core reads its settings once
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


_read_while_polling()

# Generated examples are the same in every run, so that a red run means a changed program; what `weekly` draws is new
# each time, and a failure of it prints how to see it again. No example fails for taking long: that is the machine's.
_DEFAULT = settings.get_profile("default")  # in CI, hypothesis has another one by now, which draws nothing new
_PATIENT = settings(_DEFAULT, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("same", _PATIENT, derandomize=True)
settings.register_profile("few", _PATIENT, derandomize=True, max_examples=10)  # to measure coverage
settings.register_profile("weekly", _PATIENT, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "same")


_WORKERS_PER_CORE: Final = 2  # half of a run is spent in waiting for processes to start, to notice and to end


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `--numprocesses auto` means."""
    return _WORKERS_PER_CORE * len(os.sched_getaffinity(0))


# A worker gets a file at a time. One that takes long must not be the last, and it is not the one with most tests, which
# pytest-xdist would begin with: those that start processes come first, and the many small ones fill up the end.
_BEGIN_WITH: Final = (
    "tests/unit/test_house.py",
    "tests/chart/test_container.py",
    "tests/install",
    "tests/endurance",
    "tests/attacks/test_differential.py",
    "tests/integration",
    "tests/chart",
    "tests/e2e",
    "tests/documents",
    "tests/simulation",
    "tests/unit/feeds",
    "tests/unit/tooling",
)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect thousands of tests without a look for garbage among them, neither then nor whenever a test looks."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long."""
    items.sort(key=lambda item: _rank(item.nodeid.partition("::")[0]))


@cache
def _rank(file: str) -> int:
    """Return the position of the first entry of _BEGIN_WITH that names the *file* or a folder of it."""
    ranks = (rank for rank, start in enumerate(_BEGIN_WITH) if file == start or file.startswith(f"{start}/"))
    return next(ranks, len(_BEGIN_WITH))


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark `needs` known, and look for what tests leave behind."""
    config.pluginmanager.register(Leaks())
    config.addinivalue_line("markers", "needs(*tools): skip where a tool is missing; fail where REQUIRE_ALL=1 is set")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose tools are missing, by name; fail it where REQUIRE_ALL is set."""
    wanted = [tool for mark in item.iter_markers("needs") for tool in mark.args]
    missing = [tool for tool in wanted if tools.find(tool) is None]
    if missing:
        reason = f"{item.nodeid} needs {', '.join(missing)}"
        if os.environ.get("REQUIRE_ALL"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
