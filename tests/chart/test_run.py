"""The chart's own output, running: real requests through the Envoy and the sidecar that it renders."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from authz.demo.client import Answer, send
from tests.chart.harness import Stage, merge, seen, set_stage, write
from tests.chart.helm import Charts, only
from tests.fakes.waiting import wait_until

# One Envoy for this file: what it counts, each test counts for addresses and subjects of its own.
pytestmark = [pytest.mark.needs("helm", "envoy"), pytest.mark.xdist_group("chart-run")]

CHANGES: Final[dict[str, Any]] = {
    "authz": {
        "envoy": {
            "rateLimit": {
                "address": {"enabled": True, "burst": 20, "perSecond": 1},
                "identity": {"enabled": True, "burst": 5, "perSecond": 1},
                "client": {"enabled": True, "burst": 9, "perSecond": 1},
            },
        },
        "config": {
            "token": {"forward": False},
            "rules": [
                {"name": "health", "match": {"paths": ["/healthz"]}, "allow": "public"},
                {"name": "files", "match": {"paths": ["/**"], "context": {"authz.rule": "files"}}, "allow": "public"},
                {"name": "orders", "match": {"paths": ["/orders/**"]}, "allow": "authenticated"},
            ],
            "identity": {"headers": {"x-auth-subject": "sub", "x-auth-roles": {"claim": "roles", "join": ","}}},
        },
    },
    "proxy": {
        "routes": [{"prefix": "/static", "authz": False}, {"prefix": "/files", "rule": "files"}],
    },
}


@pytest.fixture(scope="module")
def stage(charts: Charts) -> Iterator[Stage]:
    """Everything that mode proxy renders, running."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), CHANGES) as made:
        yield made


def test_good_token_passes_with_its_identity(stage: Stage) -> None:
    """The upstream learns who calls from the sidecar alone, and gets no token where `token.forward` is false."""
    token = stage.idp.mint(sub="alice", roles=["editor"])
    forged = [("X-Auth-Subject", "root"), ("X-AUTH-ROLES", "admin"), ("X-Request-Id", "mine")]
    headers = seen(stage.ask("/orders/7", client="203.0.113.1", token=token, headers=forged))
    assert headers["x-auth-subject"] == "alice"
    assert headers["x-auth-roles"] == "editor"
    assert headers["x-request-id"] != "mine"
    assert "authorization" not in headers


def test_denial_is_in_the_access_log_under_the_id_that_the_client_saw(stage: Stage) -> None:
    """The client gets a challenge and a decision id; the operator's log has that id, the reason, and no query."""
    answer = stage.ask("/orders/7?access_token=secret", client="203.0.113.2")
    assert answer.status == 401
    assert answer.header("www-authenticate") == 'Bearer realm="api"'
    told = answer.json()
    assert "reason" not in told
    line = stage.access_log(decision_id=told["decision_id"])
    assert (line["decision"], line["reason"], line["rule"]) == ("deny", "token_missing", "orders")
    assert (line["path"], line["client"], line["status"]) == ("/orders/7", "203.0.113.2", 401)
    assert "secret" not in stage.envoy.log.read_text(encoding="utf-8")


def test_allowed_request_is_in_the_access_log_too(stage: Stage) -> None:
    """Who may pass is logged with rule and issuer."""
    stage.ask("/orders/8", client="203.0.113.3", token=stage.idp.mint(sub="bob"))
    line = stage.access_log(path="/orders/8")
    assert (line["decision"], line["reason"], line["issuer"]) == ("allow", "authenticated", "corporate")


@pytest.mark.parametrize(
    ("path", "status", "target"),
    [
        ("/orders/x/../7", 200, "/orders/7"),
        ("/orders//7", 200, "/orders/7"),
        ("/static/../orders/7", 200, "/orders/7"),
        ("/orders%2f7", 400, None),
        ("/static/..%2forders/7", 400, None),
        ("/static/..%5corders/7", 400, None),
    ],
)
def test_a_path_has_one_spelling(stage: Stage, path: str, status: int, target: str | None) -> None:
    """The upstream sees the path that was evaluated; a spelling that two readers could read differently is denied."""
    answer = stage.ask(path, client="203.0.113.4", token=stage.idp.mint(sub=path))
    assert answer.status == status
    if target is not None:
        assert answer.json()["target"] == target


def test_header_with_underscores_is_refused(stage: Stage) -> None:
    """A server that takes `_` for `-` never meets a forged header."""
    forged = [("X_Auth_Subject", "root")]
    assert stage.ask("/orders/7", client="203.0.113.5", token=stage.idp.mint(), headers=forged).status == 400


def test_route_without_authorization_is_open_but_carries_no_identity(stage: Stage) -> None:
    """Where the sidecar is not asked, Envoy itself has taken forged identity out; and only whole segments are open."""
    before = stage.decisions()
    headers = seen(stage.ask("/static/logo.png", client="203.0.113.6", headers=[("X-Auth-Subject", "root")]))
    assert "x-auth-subject" not in headers
    assert stage.decisions() == before
    assert stage.ask("/static-but-secret", client="203.0.113.6").status == 403


def test_route_names_its_rule_and_no_client_can(stage: Stage) -> None:
    """The context of a route reaches the rules; the same path elsewhere is another rule's."""
    assert stage.ask("/files/7", client="203.0.113.7").status == 200
    assert stage.access_log(path="/files/7")["rule"] == "files"
    assert stage.ask("/other", client="203.0.113.7", headers=[("authz.rule", "files")]).status == 403


def ask_until_429(ask: Callable[[int], Answer]) -> list[Answer]:
    """Ask until Envoy has had enough: on a slow machine its bucket fills a little between two requests."""
    answers = [ask(0)]
    while answers[-1].status != 429 and len(answers) < 1_000:
        answers.append(ask(len(answers)))
    return answers


def statuses_of(answers: list[Answer]) -> list[int]:
    """The status of each answer."""
    return [answer.status for answer in answers]


def test_flood_of_one_address_ends_before_the_sidecar(stage: Stage) -> None:
    """After its burst an address gets 429, whatever token it guesses, and the sidecar is not asked."""
    before = stage.decisions()
    answers = ask_until_429(lambda n: stage.ask("/orders/7", client="203.0.113.8", token=f"guess{n}"))
    statuses, refused = statuses_of(answers), answers[-1]
    assert statuses[:20] == [401] * 20
    assert statuses[-1] == 429
    assert stage.decisions() - before == statuses.count(401)
    assert "decision" not in stage.access_log(client="203.0.113.8", status=429)
    assert (refused.status, refused.header("retry-after")) == (429, "1")
    line = stage.access_log(request_id=refused.header("x-request-id"))
    assert (line["status"], line["details"]) == (429, "local_rate_limited")
    assert stage.ask("/orders/7", client="203.0.113.9").status == 401  # another address is not counted with it


def test_flood_of_one_subject_ends_after_the_sidecar(stage: Stage) -> None:
    """One subject is held back wherever it calls from; another one passes."""
    greedy, modest = stage.idp.mint(sub="greedy"), stage.idp.mint(sub="modest")
    answers = ask_until_429(lambda n: stage.ask("/orders/7", client=f"198.51.100.{n % 200}", token=greedy))
    statuses, refused = statuses_of(answers), answers[-1]
    assert statuses[:5] == [200] * 5
    assert statuses[-1] == 429
    assert stage.ask("/orders/7", client="198.51.100.1", token=modest).status == 200
    assert (refused.status, refused.header("retry-after")) == (429, "1")
    assert stage.access_log(decision_id=refused.header("x-decision-id"))["status"] == 429


def test_a_machine_has_the_limit_of_its_client(stage: Stage) -> None:
    """Tokens of client credentials share a bucket of their own by client id, larger than that of a person."""
    machine = stage.idp.mint(sub="billing", client_id="billing")
    statuses = statuses_of(ask_until_429(lambda n: stage.ask("/orders/7", client=f"192.0.2.{n % 200}", token=machine)))
    assert statuses[:9] == [200] * 9
    assert statuses[-1] == 429
    same = stage.idp.mint(sub="billing", client_id="another")
    assert stage.ask("/orders/7", client="192.0.2.1", token=same).status == 200


def test_only_readiness_and_metrics_of_envoy_are_open(stage: Stage) -> None:
    """The listener for probes and scrapers passes nothing else of the admin interface."""
    assert send(f"{stage.telemetry}/live").body == b"LIVE\n"
    assert send(f"{stage.telemetry}/ready").status == 200
    metrics = send(f"{stage.telemetry}/stats/prometheus").body
    assert b"envoy_cluster_ext_authz" in metrics
    for path, method in (("/config_dump", "GET"), ("/quitquitquit", "POST"), ("/ready", "POST"), ("/", "GET")):
        assert send(f"{stage.telemetry}{path}", method=method).status == 404


def test_without_its_sidecar_envoy_lets_nobody_pass(charts: Charts) -> None:
    """Fail closed: with the sidecar gone a good token gets 503, the pod is not ready, and it is not restarted."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), CHANGES) as made:
        token = made.idp.mint()
        assert made.ask("/orders/7", client="203.0.113.1", token=token).status == 200
        made.sidecar.kill()
        assert made.ask("/orders/7", client="203.0.113.1", token=token).status == 503
        assert made.ask("/static/x", client="203.0.113.1").status == 200
        wait_until(lambda: send(f"{made.telemetry}/ready").status == 503)
        assert send(f"{made.telemetry}/live").status == 200


def test_sidecar_that_drains_is_asked_no_more(charts: Charts) -> None:
    """Envoy's health check sees NOT_SERVING, and the sidecar ends in order."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), CHANGES) as made:
        made.sidecar.stop()
        assert made.sidecar.status == 0
        unhealthy = b'envoy_cluster_membership_healthy{envoy_cluster_name="authz"} 0'
        wait_until(lambda: unhealthy in send(f"{made.telemetry}/stats/prometheus").body)


def test_change_of_the_config_map_is_taken_up(charts: Charts) -> None:
    """The kubelet turns the link of the mounted folder, and the sidecar decides by the new rules, without a restart."""
    patient = merge(CHANGES, {"authz": {"envoy": {"rateLimit": {"address": {"enabled": False}}}}})
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), patient) as made:
        assert made.ask("/orders/7", client="203.0.113.1").status == 401
        changed = only(made.documents, "ConfigMap", name="orders-authz")
        changed["data"]["authz.yaml"] = changed["data"]["authz.yaml"].replace("allow: authenticated", "allow: public")
        write(changed, made.config)
        wait_until(lambda: made.ask("/orders/7", client="203.0.113.2").status == 200)
        assert made.sidecar.running


def test_workers_share_the_requests(charts: Charts) -> None:
    """With two workers the same chart serves: Envoy asks both of the sockets that it was given."""
    changes = merge(CHANGES, {"authz": {"config": {"server": {"workers": 2}}}})
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), changes) as made:
        token = made.idp.mint()
        statuses = [
            made.ask("/orders/7", client=f"203.0.113.{n}", token=made.idp.mint(sub=str(n))).status for n in range(40)
        ]
        assert statuses == [200] * 40
        assert made.ask("/orders/7", client="198.51.100.1", token=token + "x").status == 401
        metrics = send(f"{made.admin}/metrics").body.decode()
        for number in range(2):
            assert re.search(
                rf'^authz_decisions_total{{.*reason="authenticated",.*worker="{number}"}} [1-9]', metrics, re.MULTILINE
            )
