"""What issuers send to the sidecar, through the Envoy that the chart renders: accepted, refused, limited, logged."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import pytest
import yaml

from authz.core.claims import LOGOUT_EVENT
from authz.demo.client import Answer, send
from authz.demo.sidecar import free_address
from authz.demo.signing import SigningKey
from tests.chart.harness import Stage, merge, set_stage
from tests.chart.helm import Charts, only
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.needs("helm", "envoy"), pytest.mark.xdist_group("chart-receiver")]

LOGOUT, EVENTS = "/authz/backchannel-logout", "/authz/events"
SENDERS: Final = "198.51.100.0/24"
AUDIENCE: Final = "https://api.test/ssf"
REVOKED: Final = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"

HUB: Final = {"issuer": "https://hub.test", "audiences": [AUDIENCE], "revokes_for": ["corporate"]}


def changes(hub: FakeIdp) -> dict[str, Any]:
    """Values: one issuer that logs out, one transmitter that pushes, and a low limit of any address."""
    transmitter = {
        "issuer": hub.issuer,
        "audiences": [AUDIENCE],
        "revokes_for": ["corporate"],
        "insecure": {"http": True},
    }
    return {
        "authz": {
            "receiver": {"enabled": True, "port": int(free_address().rpartition(":")[2]), "from": [SENDERS]},
            "envoy": {
                "rateLimit": {
                    "address": {"enabled": True, "burst": 2, "perSecond": 1},
                    "receiver": {"burst": 20, "perSecond": 1},
                }
            },
            "config": {
                "issuers": {"corporate": {"logout": {"clients": ["web"]}}},
                "revocation": {"transmitters": {"hub": transmitter}},
                "rules": [{"name": "all", "match": {"paths": ["/**"]}, "allow": "authenticated"}],
            },
        },
    }


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeIdp]:
    """A transmitter of security events."""
    with FakeIdp() as made:
        yield made


@pytest.fixture(scope="module")
def stage(charts: Charts, hub: FakeIdp) -> Iterator[Stage]:
    """Everything that mode proxy renders, running."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), changes(hub)) as made:
        yield made


def post(stage: Stage, path: str, body: bytes, *, client: str, kind: str, method: str = "POST") -> Answer:
    """Send what an issuer at the address *client* would."""
    headers = [("X-Forwarded-For", client), ("Content-Type", kind)]
    return send(f"{stage.front}{path}", method=method, headers=headers, body=body)


def log_out(
    stage: Stage, client: str, *, key: SigningKey | None = None, path: str = LOGOUT, **claims: object
) -> Answer:
    """Post a logout token as Keycloak does."""
    idp, written = stage.idp, {"aud": "web", "jti": "j", "events": {LOGOUT_EVENT: {}}, **claims}
    header = {**idp.key.header(), "typ": "logout+jwt"}
    body = urlencode({"logout_token": (key or idp.key).sign(idp.claims(**written), header=header)}).encode()
    return post(stage, path, body, client=client, kind="application/x-www-form-urlencoded")


def push(stage: Stage, hub: FakeIdp, sub: str, client: str, *, key: SigningKey | None = None) -> Answer:
    """Push an event about a subject (RFC 8935)."""
    about = {"format": "iss_sub", "iss": stage.idp.issuer, "sub": sub}
    claims = hub.claims(sub=None, exp=None, aud=AUDIENCE, jti=sub, sub_id=about, events={REVOKED: {}})
    token = (key or hub.key).sign(claims, header={**hub.key.header(), "typ": "secevent+jwt"})
    return post(stage, EVENTS, token.encode(), client=client, kind="application/secevent+jwt")


def reached(stage: Stage, token: str, client: str) -> int:
    """What a request with this token gets."""
    return stage.ask("/orders/7", client=client, token=token).status


def test_a_logout_token_at_the_public_port_ends_a_session(stage: Stage) -> None:
    """Envoy passes it without a token of its own, and the next request of that session is refused; others go on."""
    ended, other = stage.idp.mint(sid="s1"), stage.idp.mint(sid="s2")
    before = stage.decisions()
    answer = log_out(stage, "198.51.100.1", sid="s1")
    assert (answer.status, answer.header("cache-control")) == (200, "no-store")
    assert stage.decisions() == before  # the sidecar was not asked whether it may pass
    assert [reached(stage, token, f"203.0.113.{n}") for n, token in enumerate((ended, other), 1)] == [401, 200]
    line = stage.access_log(path="/backchannel-logout", status=200)
    assert (line["client"], line["upstream"].startswith("127.0.0.1:")) == ("198.51.100.1", True)
    assert "decision" not in line


def test_a_pushed_event_ends_a_session(stage: Stage, hub: FakeIdp) -> None:
    """The answers are those of RFC 8935, through Envoy as without it."""
    eve, bob = stage.idp.mint(sub="eve"), stage.idp.mint(sub="bob")
    wait_until(lambda: push(stage, hub, "nobody-here", "198.51.100.2").status == 202)  # its keys have come
    assert push(stage, hub, "eve", "198.51.100.2").status == 202
    assert [reached(stage, token, f"203.0.113.{n}") for n, token in enumerate((eve, bob), 3)] == [401, 200]


def test_strangers_get_an_error_and_end_nothing(stage: Stage, hub: FakeIdp) -> None:
    """A forged event gets the error of RFC 8935, a forged logout token that of its own; and no session ends."""
    token, stranger = stage.idp.mint(sub="mallory", sid="s3"), SigningKey.create("ES256", kid=hub.key.kid)
    forged = push(stage, hub, "mallory", "198.51.100.3", key=stranger)
    assert (forged.status, forged.json()["err"]) == (400, "invalid_key")
    other = push(stage, stage.idp, "mallory", "198.51.100.3")
    assert (other.status, other.json()["err"]) == (400, "invalid_issuer")
    key = SigningKey.create("ES256", kid=stage.idp.key.kid)
    assert log_out(stage, "198.51.100.3", key=key, sid="s3").json() == {"error": "invalid_request"}
    assert reached(stage, token, "203.0.113.5") == 200


def test_other_methods_sizes_and_paths_do_not_reach_the_receiver(stage: Stage) -> None:
    """Envoy refuses them itself; what is beside the two paths is any request, and needs a token."""
    kind, client = "application/secevent+jwt", "198.51.100.4"
    for method in ("GET", "PUT", "DELETE"):
        answer = post(stage, EVENTS, b"", client=client, kind=kind, method=method)
        assert (answer.status, answer.header("allow")) == (405, "POST")
    assert post(stage, EVENTS, b"x" * 98_305, client=client, kind=kind).status == 413
    largest = post(stage, EVENTS, b"x" * 98_304, client=client, kind=kind)
    assert (largest.status, largest.json()["err"]) == (400, "invalid_request")
    for path in ("/authz/receive", "/authz/livez", "/authz/revocations", f"{EVENTS}/", "/authz/events%2f..", "/events"):
        assert post(stage, path, b"", client=f"203.0.113.{60 + len(path)}", kind=kind).status in {400, 401}


def test_a_body_without_a_length_arrives(stage: Stage) -> None:
    """Envoy waits for all of it, and says how long it is: the receiver reads no other."""
    idp = stage.idp
    claims = idp.claims(aud="web", jti="j", sid="s4", events={LOGOUT_EVENT: {}})
    body = urlencode({"logout_token": idp.key.sign(claims, header={**idp.key.header(), "typ": "logout+jwt"})}).encode()
    where = urlsplit(stage.front)
    head = f"POST {LOGOUT} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 198.51.100.5\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection((where.hostname, where.port)) as connection, connection.makefile("rb") as answer:
        connection.sendall(f"{head}{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        assert answer.readline().split()[1] == b"200"
    assert reached(stage, idp.mint(sid="s4"), "203.0.113.6") == 401


def test_only_configured_networks_may_send(stage: Stage) -> None:
    """A good logout token from elsewhere gets 403 of Envoy, and ends nothing."""
    assert log_out(stage, "192.0.2.1", sid="s5").status == 403
    assert reached(stage, stage.idp.mint(sid="s5"), "203.0.113.7") == 200


def test_an_issuer_has_a_limit_of_its_own(stage: Stage) -> None:
    """A burst of logouts passes the limit of any address, a flood does not, and another issuer's still arrive."""
    answers = [log_out(stage, "198.51.100.6", sid=f"burst{n}").status for n in range(20)]
    assert answers == [200] * 20
    while (answer := log_out(stage, "198.51.100.6", sid="flood")).status == 200:
        pass
    assert (answer.status, answer.header("retry-after")) == (429, "1")
    assert log_out(stage, "198.51.100.7", sid="other").status == 200


def test_without_its_sidecar_a_sender_learns_that_it_failed(charts: Charts, hub: FakeIdp) -> None:
    """503, and never a success that ended nothing."""
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), changes(hub)) as made:
        made.sidecar.kill()
        assert log_out(made, "198.51.100.1", sid="s1").status == 503


def test_workers_share_what_arrives(charts: Charts, hub: FakeIdp) -> None:
    """The supervisor of two workers listens at the port of the chart, and both refuse the session."""
    two = merge(changes(hub), {"authz": {"config": {"server": {"workers": 2}}}})
    with tempfile.TemporaryDirectory(prefix="authz-") as folder, set_stage(charts, Path(folder), two) as made:
        assert log_out(made, "198.51.100.1", sid="s1").status == 200
        token = made.idp.mint(sid="s1")
        assert {reached(made, token, f"203.0.113.{n}") for n in range(8)} == {401}


def test_a_server_opens_its_port(charts: Charts) -> None:
    """In mode server the receiver is in container, Service and network policy, and its senders may be others."""
    envoy = [{"podSelector": {"matchLabels": {"app": "edge"}}}]
    changes = {"authz": {"receiver": {"enabled": True}}, "networkPolicy": {"receiverFrom": envoy}}
    documents = charts.with_values("server", changes)
    config = yaml.safe_load(only(documents, "ConfigMap", name="orders-authz")["data"]["authz.yaml"])
    assert config["receivers"] == {"listen": "0.0.0.0:9193"}
    service = {port["name"]: port for port in only(documents, "Service", name="orders-authz")["spec"]["ports"]}
    assert (service["receiver"]["port"], service["receiver"]["targetPort"]) == (9193, "receiver")
    (rule,) = (
        rule
        for rule in only(documents, "NetworkPolicy")["spec"]["ingress"]
        if rule["ports"] == [{"protocol": "TCP", "port": 9193}]
    )
    assert rule["from"] == envoy


def test_behind_its_own_envoy_no_port_is_opened(charts: Charts) -> None:
    """In mode proxy the receiver listens on loopback: no container port, Service port or policy speaks of it."""
    values = {"authz": {"receiver": {"enabled": True}}}
    documents = charts.with_values("proxy", values)
    config = yaml.safe_load(only(documents, "ConfigMap", name="orders-authz")["data"]["authz.yaml"])
    assert config["receivers"] == {"listen": "127.0.0.1:9193"}
    opened = [only(documents, kind, name="orders-authz") for kind in ("Deployment", "Service", "NetworkPolicy")]
    assert "9193" not in json.dumps(opened)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuers": {"corporate": {"logout": {"clients": ["web"]}}}}, "nothing receives logout tokens"),
        ({"revocation": {"transmitters": {"hub": HUB}}}, "nothing receives its events"),
        ({"receivers": {"listen": "0.0.0.0:9193"}}, "the chart sets it, with authz.receiver.enabled"),
    ],
)
def test_a_receiver_that_is_missing_is_named(charts: Charts, changes: dict[str, Any], why: str) -> None:
    """Helm refuses what could never work, before anything is installed."""
    extra = charts.folder / "changes.yaml"
    extra.write_text(yaml.safe_dump({"authz": {"config": changes}}), encoding="utf-8")
    done = charts.run("helm4", "template", charts.app, "-f", charts.app / "ci/proxy-values.yaml", "-f", extra)
    assert done.returncode != 0
    assert why in done.stderr
