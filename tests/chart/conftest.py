"""A copy of deploy/ for the tests of this folder: Helm writes dependencies beside the chart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chart.helm import DEPLOY, Charts


@pytest.fixture(scope="session")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Charts:
    """Charts with their dependencies, as `helm dependency build` leaves them."""
    folder = tmp_path_factory.mktemp("deploy")
    ignored = shutil.ignore_patterns("*.tgz", "__pycache__")
    made = Charts(Path(shutil.copytree(DEPLOY, folder / "deploy", ignore=ignored)))
    for chart in (made.app, made.injection, made.consumer):
        made.say("helm4", "dependency", "build", "--skip-refresh", chart)
    return made
