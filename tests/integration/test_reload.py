"""Proves hot reload in the real process: good files are taken up whole, broken ones change nothing and are reported."""

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
    rewrite(sidecar, good.replace("allow: public", "allow: deny"))
    wait_until(lambda: sidecar.check(path="/public/x") == "policy_denied")
    assert sidecar.check(idp.mint(aud="api")) == "authenticated"
    assert reloads(sidecar, "accepted") >= 1
    assert sidecar.health() == "SERVING"


def test_new_file_is_found_without_a_signal(sidecar: Running) -> None:
    """A mounted ConfigMap changes, and no one sends a signal."""
    file = sidecar.sidecar.config_file
    file.write_text(file.read_text().replace("allow: public", "allow: deny"))
    wait_until(lambda: sidecar.check(path="/public/x") == "policy_denied")


def lines(sidecar: Running, part: str) -> list[str]:
    """The lines of the log with *part* in them."""
    return [line for line in sidecar.process.log.read_text().splitlines() if part in line]


def is_current(sidecar: Running) -> bool:
    """Whether the gauge says that what runs is what the file says."""
    return b"authz_config_last_reload_successful 1.0" in sidecar.admin("/metrics")[1]


def test_a_signal_for_a_changed_file_is_one_reload(sidecar: Running) -> None:
    """Anyone who writes the file and sends a signal has it read once: the watch does not find the same change again."""
    file = sidecar.sidecar.config_file
    rewrite(sidecar, file.read_text() + "# changed\n")
    wait_until(lambda: reloads(sidecar, "accepted") == 1)
    file.write_text(file.read_text().replace("allow: public", "allow: deny"))
    wait_until(lambda: sidecar.check(path="/public/x") == "policy_denied")
    wait_until(lambda: reloads(sidecar, "accepted") == 2)
    wait_until(lambda: len(lines(sidecar, "configuration reloaded")) == 2)


def test_a_file_that_is_gone_is_told_once(sidecar: Running) -> None:
    """Seconds later the log says so and the gauge is 0; when the same file is back, both say that all is well."""
    file = sidecar.sidecar.config_file
    away = file.with_suffix(".away")
    file.rename(away)
    wait_until(lambda: not is_current(sidecar))
    assert sidecar.check(path="/public/x") == "public"
    away.rename(file)
    wait_until(lambda: is_current(sidecar))
    (told,) = lines(sidecar, "was removed")
    assert f"configuration file {file} was removed, the last one stays" in told
    assert (reloads(sidecar, "rejected"), reloads(sidecar, "accepted")) == (1, 1)


def test_what_waits_for_the_next_start_is_told_against_what_runs(sidecar: Running) -> None:
    """A fixed setting that changes is reported; one that changes back is as it runs, and is not."""
    good = sidecar.sidecar.config_file.read_text()
    rewrite(sidecar, good.replace("drain: 4s", "drain: 5s"))
    wait_until(lambda: len(lines(sidecar, "changes of server take effect at the next start")) == 1)
    rewrite(sidecar, good)
    wait_until(lambda: len(lines(sidecar, "configuration reloaded")) == 2)
    rewrite(sidecar, good.replace("drain: 4s", "drain: 6s"))
    wait_until(lambda: len(lines(sidecar, "configuration reloaded")) == 3)
    wait_until(lambda: len(lines(sidecar, "changes of server")) >= 2)
    assert len(lines(sidecar, "changes of server")) == 2


def test_headers_that_envoy_does_not_know_are_told(sidecar: Running) -> None:
    """An identity header that is new, or a token header to take out, is one that Envoy must have first."""
    file = sidecar.sidecar.config_file
    good = file.read_text()
    more = good + "identity: {headers: {x-user: sub, x-issuer: iss}}\n"
    rewrite(sidecar, more)
    wait_until(lambda: len(lines(sidecar, "new headers ")) == 1)
    (told,) = lines(sidecar, "new headers ")
    assert "new headers x-issuer, x-user: until Envoy's configuration has them, Envoy answers 500" in told
    assert f"`authz envoy-config --config {file}`" in told
    assert '"level": "WARNING"' in told
    rewrite(sidecar, more.replace(", x-issuer: iss", ""))
    wait_until(lambda: len(lines(sidecar, "configuration reloaded")) == 2)
    rewrite(sidecar, more.replace(", x-issuer: iss", "") + "token: {forward: false}\n")
    wait_until(lambda: len(lines(sidecar, "new headers ")) == 2)
    assert "new headers authorization:" in lines(sidecar, "new headers ")[1]


def test_the_signal_has_keys_fetched_at_once(sidecar: Running, idp: FakeIdp) -> None:
    """An operator in an incident waits for no schedule: a removed key is out, though no one named an unknown one."""
    stolen = idp.mint()
    assert sidecar.check(stolen) == "authenticated"
    old = idp.key.kid
    idp.rotate()
    idp.withdraw(old)
    sidecar.send_signal(signal.SIGHUP)
    wait_until(lambda: sidecar.check(stolen) == "key_not_found")
    assert sidecar.check(idp.mint()) == "authenticated"


def test_signals_for_reload_do_not_end_the_process(sidecar: Running) -> None:
    """A burst of them is one reload or a few, and the sidecar continues to serve."""
    for _ in range(20):
        sidecar.send_signal(signal.SIGHUP)
    wait_until(lambda: reloads(sidecar, "accepted") >= 1)
    assert sidecar.check(path="/public/x") == "public"
