"""The Dockerfile, as it is written."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.chart import image
from tests.chart.helm import DEPLOY
from tests.tools import ROOT, TOOLS


@pytest.mark.needs("helm")
def test_dockerfile_is_clean() -> None:
    """Hadolint has nothing to say."""
    done = subprocess.run([TOOLS / "helm/hadolint", image.DOCKERFILE], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_image_runs_as_the_chart_says() -> None:
    """User, ports and entry point of the image are those of the chart; the last stage has no shell to run anything."""
    build, final = image.read()
    assert build.base == "python:3.13-trixie"  # has a C compiler, as `-slim` does not
    assert final.base.startswith("gcr.io/distroless/python3")
    assert final.find("USER") == "65532:65532"
    assert json.loads(final.find("ENTRYPOINT")) == ["/usr/local/bin/authz"]
    assert "/usr/local/bin/authz /usr/local/bin/authz" in " ".join(text for name, text in final.steps if name == "COPY")
    assert final.environment["PATH"].split(":")[0] == "/usr/local/bin"
    assert "RUN" not in {name for name, _ in final.steps}
    wanted = {
        line.split("!")[1] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if "!" in line
    }
    copied = {source for name, text in build.steps if name == "COPY" for source in text.split()[:-1]}
    assert copied == wanted


def test_build_tools_are_part_of_the_lock() -> None:
    """deploy/build.lock names hatchling and what it needs, each as requirements.lock has it."""
    everything = (ROOT / "requirements.lock").read_text()
    tools = (DEPLOY / "build.lock").read_text().split("\n", 1)[1]
    pins = [pin for pin in tools.replace("\n    ", " ").splitlines() if pin]
    flat = everything.replace("\n    ", " ").splitlines()
    assert pins
    assert all(pin in flat for pin in pins)
