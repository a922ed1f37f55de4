"""Proves what a supervisor reports of its workers: numbers, keys, readiness; and that Envoy asks each."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import wait_until
from tests.integration.crew import Crew, crew, envoy_before, get, keys_of, numbers_of, private_folder
from tests.integration.sidecars import issuer
from tests.tools import ROOT, path
from tests.unit.envoy.serving import SECONDS, short_folder

_TEXT: dict[str, Any] = {"capture_output": True, "text": True}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer."""
    with FakeIdp() as provider:
        yield provider


@pytest.fixture
def two(folder: Path, idp: FakeIdp) -> Iterator[Crew]:
    """Two workers that serve."""
    with crew(folder, issuer("a", idp)) as started:
        yield started


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """Two workers, for all tests that leave them as they found them."""
    with short_folder() as folder, FakeIdp() as provider, crew(folder, issuer("a", provider)) as started:
        yield Shared(started, folder, provider)


@dataclass(frozen=True, slots=True)
class Shared:
    """Two workers that serve, their folder, and their issuer."""

    two: Crew
    folder: Path
    idp: FakeIdp


@pytest.mark.needs("envoy")
def test_envoy_asks_both(shared: Shared) -> None:
    """Requests are spread over the workers, and each is evaluated by one of them."""
    two, token = shared.two, shared.idp.mint()
    before = made_by(numbers_of(two, up={0: 1, 1: 1}))
    with envoy_before(two, shared.folder) as envoy:
        assert [get(envoy, token) for _ in range(40)] == [200] * 40
        assert get(envoy, token + "x") == 401
    after = made_by(numbers_of(two, up={0: 1, 1: 1}))
    assert all(after.values())
    assert after.total() == before.total() + 40


def made_by(numbers: str) -> Counter[str]:
    """How many requests each worker let pass."""
    samples = [sample for family in parse_classic(numbers) for sample in family.samples]
    passed = [s for s in samples if (s.name, s.labels.get("reason")) == ("authz_decisions_total", "authenticated")]
    return Counter({sample.labels["worker"]: int(sample.value) for sample in passed})


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", parse_classic), ("application/openmetrics-text; version=1.0.0", parse_openmetrics)],
)
def test_numbers_of_all_are_one_exposition(shared: Shared, accept: str, parse: Any) -> None:  # noqa: ANN401
    """Both parsers and Prometheus's own tool take it; every sample names its worker, and both have the same."""
    for number in range(2):
        assert shared.two.check(number, shared.idp.mint()) == "authenticated"
    text = numbers_of(shared.two, accept=accept, up={0: 1, 1: 1})
    families: list[Metric] = list(parse(text))
    of = [
        {sample.name for family in families for sample in family.samples if sample.labels["worker"] == number}
        for number in "01"
    ]
    assert of[0] == of[1] >= {"authz_decisions_total", "authz_keys_count", "authz_worker_up", "authz_build_info"}
    if accept == "text/plain":
        done = subprocess.run([path("promtool"), "check", "metrics"], input=text, check=False, **_TEXT)
        assert "parse error" not in done.stdout + done.stderr
        assert done.returncode in {0, 3}, done.stdout + done.stderr  # 3: it would rather have other names


def test_keys_of_all_are_one_document(shared: Shared) -> None:
    """`authz keys` reads it as it reads that of one process, and says of which worker each part is."""
    two, idp = shared.two, shared.idp
    document = keys_of(two, silent=[])
    assert [(entry["issuer"], entry["worker"]) for entry in document["issuers"]] == [("a", 0), ("a", 1)]
    assert {key["kid"] for entry in document["issuers"] for key in entry["keys"]} == {idp.key.kid}
    argv = [sys.executable, "-m", "authz", "keys", "--admin", two.sidecar.admin_url]
    printed = subprocess.run(argv, cwd=ROOT, check=True, **_TEXT).stdout
    assert f"a: {idp.issuer} (worker 0)" in printed
    assert f"a: {idp.issuer} (worker 1)" in printed
    assert json.loads(subprocess.run([*argv, "--json"], cwd=ROOT, check=True, **_TEXT).stdout).keys() == document.keys()


def test_a_worker_that_hangs_holds_up_nobody(two: Crew, idp: FakeIdp) -> None:
    """Its numbers and keys are missing and its name is shown; the rest is answered, and the other worker serves."""
    hangs = two.worker(0)
    os.kill(hangs, signal.SIGSTOP)
    assert two.check(1, idp.mint()) == "authenticated"
    assert two.admin("/livez").status == 200
    wait_until(lambda: two.readiness() == "waiting for worker 0\n")
    families = list(parse_classic(numbers_of(two, up={0: 0, 1: 1})))
    assert {s.labels["worker"] for family in families for s in family.samples if s.name == "authz_build_info"} == {"1"}
    assert {entry["worker"] for entry in keys_of(two, silent=[0])["issuers"]} == {1}


def test_a_worker_that_hung_for_a_moment_serves_on(two: Crew) -> None:
    """It is the same process, for no one has ended it."""
    hangs = two.worker(0)
    os.kill(hangs, signal.SIGSTOP)
    wait_until(lambda: "worker 0" in two.readiness())
    os.kill(hangs, signal.SIGCONT)
    two.await_ready()
    assert two.worker(0) == hangs


def test_sockets_are_for_owner_and_group_and_those_of_the_admin_for_us_alone(shared: Shared) -> None:
    """Anyone who can connect can ask: not everybody."""
    two = shared.two
    assert [stat.S_IMODE(made.stat().st_mode) for made in two.sockets] == [0o660, 0o660]
    assert stat.S_IMODE(private_folder(two).stat().st_mode) == 0o700


def test_admin_sockets_are_where_the_others_are(shared: Shared) -> None:
    """That folder alone can be written where the root is read-only: a pod of ours has no /tmp."""
    assert private_folder(shared.two).parent == shared.folder


def test_health_asks_all_by_the_configured_address(two: Crew, folder: Path) -> None:
    """The address of the file stands for all of its workers: one that does not serve is named."""
    argv = [sys.executable, "-m", "authz", "health", f"unix:{folder}/authz.sock"]
    done = subprocess.run([*argv, "--wait", str(SECONDS)], cwd=ROOT, check=False, **_TEXT)
    assert (done.returncode, done.stderr) == (0, "")
    os.kill(two.worker(1), signal.SIGSTOP)
    done = subprocess.run(argv, cwd=ROOT, check=False, **_TEXT)
    assert done.returncode == 2
    assert "authz-1.sock" in done.stderr
