"""What every test may use."""

from __future__ import annotations

import os

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it is compiled

from authz.cli.serve import READ_WHILE_POLLING
from tests import tools


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


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark `needs` known."""
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
