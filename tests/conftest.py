"""What every test may use."""

from __future__ import annotations

import os

import pytest

from authz.cli.serve import GRPC_SETTINGS
from tests import tools

os.environ.setdefault("GRPC_EXPERIMENTS", GRPC_SETTINGS["GRPC_EXPERIMENTS"])  # before any test imports gRPC


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
