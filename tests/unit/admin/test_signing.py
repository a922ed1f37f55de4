"""Proves the admin routes of our own keys, and their commands: what anyone gets, and what this host may change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authz.admin.routes import AdminRequest, AdminResponse, Route, dispatch
from authz.admin.server import AdminServer
from authz.admin.signing import make_signing_routes
from authz.cli import main
from authz.config.address import TcpAddress, UnixAddress
from authz.runtime.signing import PodSigning, ProcessSigning
from authz.runtime.workers import Workers
from authz.signing.keyring import Keyring
from authz.signing.local import LocalSigner
from tests.unit.config.sample import configure
from tests.unit.signing.test_keyring import TOKEN, Clock

KEYS = "/.well-known/jwks.json"
HERE, THERE = ("127.0.0.1", 1), ("192.0.2.1", 1)


def keyring(more: str = TOKEN) -> Keyring:
    """Have keys, or none."""
    clock = Clock()
    ring = Keyring(lambda _: None, now=lambda: clock.wall, monotonic=lambda: clock.monotonic)
    ring.reconfigure(configure(more=more))
    return ring


def test_anyone_gets_the_public_keys() -> None:
    """The upstream in the pod, and a scraper elsewhere, read the key set; with its tag they get 304."""
    ring = keyring()
    routes = make_signing_routes(ProcessSigning(ring))
    for peer in (HERE, THERE):
        response = dispatch(routes, KEYS, AdminRequest(peer, ""))
        assert (response.status, response.body.decode()) == (HTTPStatus.OK, ring.view.key_set)
        assert dict(response.headers)["cache-control"] == "max-age=300"
        tag = dict(response.headers)["etag"]
        assert dispatch(routes, KEYS, AdminRequest(peer, "", if_none_match=tag)).status == HTTPStatus.NOT_MODIFIED
    assert dispatch(routes, "/.well-known/openid-configuration", AdminRequest(HERE, "")).status == HTTPStatus.NOT_FOUND


def test_without_a_key_readers_keep_what_they_have(tmp_path: Path) -> None:
    """A sidecar that cannot read its keys answers 503, and not that there are none."""
    ring = keyring(f"{TOKEN}signing: {{rotation: {{state_file: '{tmp_path}/absent/state.json'}}}}\n")
    routes = make_signing_routes(ProcessSigning(ring))
    assert dispatch(routes, KEYS, AdminRequest(HERE, "")).status == HTTPStatus.SERVICE_UNAVAILABLE
    assert ring.view.published == ()


def test_all_else_is_for_this_host() -> None:
    """Phases, rotations and withdrawals are for peers on this host, and for no page in a browser."""
    ring = keyring()
    routes = make_signing_routes(ProcessSigning(ring))
    before = ring.view
    for request in (AdminRequest(THERE, "", "POST"), AdminRequest(HERE, "", "POST", origin="http://evil.test")):
        for path in ("/signing/rotate", f"/signing/withdraw?kid={before.key.kid if before.key else ''}"):
            assert dispatch(routes, path, request).status == HTTPStatus.FORBIDDEN
    assert dispatch(routes, "/signing", AdminRequest(THERE, "")).status == HTTPStatus.FORBIDDEN
    assert dispatch(routes, "/signing", AdminRequest(HERE, "", host="evil.test")).status == HTTPStatus.FORBIDDEN
    assert dispatch(routes, "/signing/rotate", AdminRequest(HERE, "")).status == HTTPStatus.NOT_FOUND
    assert ring.view == before


def test_without_a_token_for_the_upstream_there_are_no_keys() -> None:
    """Each route says that nothing is signed."""
    signing = ProcessSigning(keyring(more=""))
    routes = make_signing_routes(signing)
    for path in (KEYS, "/.well-known/openid-configuration", "/signing"):
        assert dispatch(routes, path, AdminRequest(HERE, "")).status == HTTPStatus.NOT_FOUND
    assert dispatch(routes, "/signing/rotate", AdminRequest(HERE, "", "POST")).status == HTTPStatus.CONFLICT
    assert dispatch(routes, "/signing/withdraw?kid=x", AdminRequest(HERE, "", "POST")).status == HTTPStatus.NOT_FOUND
    assert signing.facts() is None


def test_metrics_say_how_old_the_key_is(tmp_path: Path) -> None:
    """Phases, since when the key signs, when it is due, and whether keys cannot be read."""
    ring = keyring(f"{TOKEN}signing: {{rotation: {{state_file: '{tmp_path}/state.json'}}}}\n")
    facts = ProcessSigning(ring).facts()
    assert facts is not None
    assert (facts.phases, facts.started, facts.failing) == (
        {"published": 0, "signing": 1, "retired": 0},
        1_800_000_000.0,
        False,
    )
    assert facts.due == 1_800_000_000.0 + 720 * 3600
    (tmp_path / "state.json").write_text("{}")
    ring.step()
    facts = ProcessSigning(ring).facts()
    assert facts is not None
    assert facts.failing
    signing = ProcessSigning(ring)
    assert signing.rotate()[0] is signing.withdraw(str(ring.describe()["signing"]))[0] is HTTPStatus.SERVICE_UNAVAILABLE


def test_metrics_say_that_a_listed_key_cannot_be_read(tmp_path: Path) -> None:
    """A renewed file that is no key: the one in memory signs on, and an alert knows before the next start does."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps(LocalSigner.generate("ES256").export_private()))
    ring = keyring(f"{TOKEN}signing: {{keys: {{main: {{kind: file, file: '{file}'}}}}}}\n")
    file.write_text("{}")
    ring.step()
    facts = ProcessSigning(ring).facts()
    assert facts is not None
    assert (facts.failing, facts.phases["signing"]) == (True, 1)


@pytest.fixture
def served() -> Iterator[tuple[str, Keyring]]:
    """The URL of an admin port, and the keys behind it."""
    ring = keyring()
    server = AdminServer(TcpAddress("127.0.0.1", 0), make_signing_routes(ProcessSigning(ring)))
    server.start()
    yield f"http://127.0.0.1:{server.port}", ring
    server.stop()


def run(*arguments: str) -> Result:
    """Run `authz`."""
    return CliRunner().invoke(main, arguments)


def test_commands_of_a_running_sidecar(served: tuple[str, Keyring]) -> None:
    """The keys are shown with their phases; a rotation begins, and a key is withdrawn."""
    url, ring = served
    first = ring.describe()["signing"]
    shown = run("keys", "--own", "--admin", url)
    assert shown.exit_code == 0
    assert str(first)[:8] in shown.output
    assert json.loads(run("keys", "--own", "--json", "--admin", url).output)["signing"] == first
    rotated = run("signing", "rotate", "--admin", url)
    assert (rotated.exit_code, "is published" in rotated.output) == (0, True)
    assert run("signing", "withdraw", str(first), "--admin", url).exit_code == 0
    assert ring.describe()["signing"] not in {None, first}
    assert run("signing", "withdraw", str(first), "--admin", url).exit_code == 1
    assert run("signing", "rotate", "--admin", "http://127.0.0.1:9").exit_code == 1


def test_commands_of_a_file(tmp_path: Path) -> None:
    """A job changes the file that a Secret is made of; bad arguments and files change nothing."""
    state = tmp_path / "keys.json"
    first = run("signing", "rotate", "--state", str(state))
    assert (first.exit_code, first.output.split()[0]) == (0, "signing")
    kid = first.output.split()[1]
    again = run("signing", "rotate", "--state", str(state), "--algorithm", "Ed25519")
    assert [line.split()[0] for line in again.output.splitlines()] == ["signing", "published"]
    before = state.read_bytes()
    assert run("signing", "rotate", "--state", str(state), "--ahead", "soon").exit_code == 2
    assert run("signing", "rotate", "--state", str(tmp_path / "other.json"), "--algorithm", "HS256").exit_code == 2
    assert run("signing", "withdraw", "unknown", "--state", str(state)).exit_code == 1
    assert state.read_bytes() == before
    assert run("signing", "withdraw", kid, "--state", str(state)).exit_code == 0
    assert kid in json.loads(state.read_text())["withdrawn"]
    state.write_text("{}")
    assert run("signing", "rotate", "--state", str(state)).exit_code == 2


def test_a_pod_whose_workers_do_not_answer(tmp_path: Path) -> None:
    """Nothing is published, and what was asked for is not done."""
    pod = PodSigning(Workers([tmp_path / "0.sock"], restarts=[0]))
    assert pod.published() is None
    assert pod.describe() is None
    assert pod.rotate()[0] is pod.withdraw("x")[0] is HTTPStatus.SERVICE_UNAVAILABLE


def test_an_emergency_that_does_not_reach_all_workers(tmp_path: Path) -> None:
    """If one worker does not answer, or cannot withdraw the key, the operator learns it; one that had none is fine."""
    rings = [keyring(f"{TOKEN}signing: {{rotation: {{state_file: '{tmp_path}/{name}.json'}}}}\n") for name in "ab"]
    sockets = [tmp_path / "0.sock", tmp_path / "1.sock"]
    servers = [
        AdminServer(UnixAddress(str(path)), make_signing_routes(ProcessSigning(ring)))
        for path, ring in zip(sockets, rings, strict=True)
    ]
    pod = PodSigning(Workers(sockets, restarts=[0, 0]))
    first, second = (str(ring.describe()["signing"]) for ring in rings)
    servers[0].start()
    assert pod.withdraw(first) == (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "worker 1 does not answer, and may still use the key",
    )
    servers[1].start()
    assert pod.withdraw(first)[0] is HTTPStatus.NOT_FOUND  # it is done already
    assert pod.withdraw(second)[0] is HTTPStatus.OK
    (tmp_path / "b.json").write_text("{}")
    third = str(rings[1].describe()["signing"])
    assert pod.withdraw(third)[0] is HTTPStatus.SERVICE_UNAVAILABLE
    for server in servers:
        server.stop()


@pytest.mark.parametrize("status", [HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.FORBIDDEN])
def test_a_worker_that_fails_in_another_way_has_not_withdrawn_the_key(tmp_path: Path, status: HTTPStatus) -> None:
    """Whatever it says, the operator learns that, and not that the others have done it."""
    ring = keyring(f"{TOKEN}signing: {{rotation: {{state_file: '{tmp_path}/a.json'}}}}\n")
    broken: dict[str, Route] = {"POST /signing/withdraw": lambda _request: AdminResponse(status, b"out of order\n")}
    sockets = [tmp_path / "0.sock", tmp_path / "1.sock"]
    routes = (make_signing_routes(ProcessSigning(ring)), broken)
    servers = [AdminServer(UnixAddress(str(path)), each) for path, each in zip(sockets, routes, strict=True)]
    for server in servers:
        server.start()
    pod = PodSigning(Workers(sockets, restarts=[0, 0]))
    assert pod.withdraw(str(ring.describe()["signing"])) == (status, "out of order")
    for server in servers:
        server.stop()
