"""Proves hot reload in the real process: what is good is taken up whole, what is broken changes nothing and is told."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import wait_until
from tests.integration.sidecars import Running, issuer, running
from tests.unit.envoy.serving import short_folder

BROKEN: dict[str, Callable[[str], str]] = {
    "broken YAML": lambda text: text + "\n  - [",
    "unknown field": lambda text: text + "surprise: true\n",
    "issuer twice": lambda text: text.replace("rules:", text[text.index("  a:") : text.index("rules:")] + "rules:", 1),
    "plain http": lambda text: text.replace("insecure: {http: true}", ""),
    "no rules": lambda text: text[: text.index("rules:")] + "rules: []\n",
    "empty": lambda _: "",
}


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An identity provider."""
    with FakeIdp() as provider:
        yield provider


@pytest.fixture
def sidecar(idp: FakeIdp) -> Iterator[Running]:
    """A sidecar that is ready."""
    with short_folder() as folder, running(folder, issuer("a", idp)) as started:
        started.await_ready()
        yield started


def reloads(sidecar: Running, result: str) -> float:
    """How many reloads ended so."""
    text = sidecar.admin("/metrics")[1].decode()
    match = re.search(rf'^authz_config_reloads_total{{result="{result}"}} (\S+)$', text, re.MULTILINE)
    assert match, text
    return float(match[1])


def rewrite(sidecar: Running, text: str) -> None:
    """Put *text* in place of the configuration, and ask for a reload."""
    sidecar.sidecar.config_file.write_text(text)
    sidecar.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("defect", BROKEN)
def test_what_is_broken_changes_nothing(sidecar: Running, idp: FakeIdp, defect: str) -> None:
    """The last good configuration stays, the log says why, and the metric counts it."""
    good = sidecar.sidecar.config_file.read_text()
    rewrite(sidecar, BROKEN[defect](good))
    wait_until(lambda: reloads(sidecar, "rejected") >= 1)
    wait_until(lambda: "configuration not reloaded" in sidecar.process.log.read_text())
    assert sidecar.check(idp.mint(aud="api")) == "authenticated"
    assert sidecar.check(path="/public/x") == "public"
    assert reloads(sidecar, "accepted") == 0


def test_new_rules_are_taken_up_and_keys_are_kept(sidecar: Running, idp: FakeIdp) -> None:
    """A rule that was public is so no more; the issuer, which is down by now, is not asked again."""
    idp.stop()
    good = sidecar.sidecar.config_file.read_text()
    rewrite(sidecar, good.replace("allow: public", "allow: nobody"))
    wait_until(lambda: sidecar.check(path="/public/x") == "policy_denied")
    assert sidecar.check(idp.mint(aud="api")) == "authenticated"
    assert reloads(sidecar, "accepted") >= 1
    assert sidecar.health() == "SERVING"


def test_new_file_is_found_without_a_signal(sidecar: Running) -> None:
    """A mounted ConfigMap changes, and nobody sends a signal."""
    file = sidecar.sidecar.config_file
    file.write_text(file.read_text().replace("allow: public", "allow: nobody"))
    wait_until(lambda: sidecar.check(path="/public/x") == "policy_denied")


def test_signals_for_reload_do_not_end_the_process(sidecar: Running) -> None:
    """A burst of them is one reload or a few, and the sidecar serves on."""
    for _ in range(20):
        sidecar.send_signal(signal.SIGHUP)
    wait_until(lambda: reloads(sidecar, "accepted") >= 1)
    assert sidecar.check(path="/public/x") == "public"
