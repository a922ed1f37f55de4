"""Proves that revocations reach every worker of every replica, by a real server that restarts, hangs and is away."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from authz.cli import main
from tests.fakes.idp import FakeIdp
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.waiting import wait_until
from tests.integration.crew import Crew, crew
from tests.integration.sidecars import Running, issuer, running
from tests.unit.envoy.serving import short_folder

pytestmark = pytest.mark.needs("redis-server")

KEPT: Final = ("appendonly yes", "appendfsync always")
STREAM: Final = "authz:revocations"
_SECRET: Final = "y" * 32


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


def settings(folder: Path, store: RedisServer) -> str:
    """Write what replicas have in common."""
    (folder / "secret").write_text(_SECRET)
    return f"{store.settings()}revocation: {{shared: {{secret_file: {folder / 'secret'}}}}}\n"


@contextmanager
def replica(folder: Path, name: str, idp: FakeIdp, store: RedisServer, *, ready: bool = True) -> Iterator[Running]:
    """Run a replica of one worker."""
    (folder / name).mkdir()
    with running(folder / name, issuer("a", idp), server=f"workers: 1\n{settings(folder, store)}") as started:
        if ready:
            started.await_ready()
        yield started


def command(url: str, idp: FakeIdp, *arguments: str) -> Result:
    """Run `authz revoke` about eve."""
    return CliRunner().invoke(main, ["revoke", "--admin", url, "--issuer", idp.issuer, "--sub", "eve", *arguments])


def _check_all(two: Crew, third: Running, token: str) -> list[str]:
    """What both workers of one replica, and the other replica say."""
    return [two.check(0, token), two.check(1, token), third.check(token)]


def test_an_event_reaches_every_worker_of_every_replica(folder: Path, tmp_path: Path, idp: FakeIdp) -> None:
    """Also one that starts afterwards; and what is taken back at one is taken back at all."""
    token = idp.mint(sub="eve")
    with (
        redis_server(tmp_path) as store,
        crew(folder, issuer("a", idp), more=settings(folder, store)) as two,
        replica(folder, "b", idp, store) as third,
    ):
        url = third.sidecar.admin_url
        all_three = partial(_check_all, two, third, token)
        assert all_three() == ["authenticated"] * 3
        done = command(url, idp)
        assert (done.exit_code, done.stdout) == (0, "revoked: 1 new\n")
        assert third.check(token) == "token_revoked"
        wait_until(lambda: all_three() == ["token_revoked"] * 3)
        with replica(folder, "c", idp, store) as later:
            assert later.check(token) == "token_revoked"
            assert command(two.sidecar.admin_url, idp, "--undo").stdout == "taken back: 1 entries\n"
            wait_until(lambda: all_three() == ["authenticated"] * 3)
            wait_until(lambda: later.check(token) == "authenticated")
            shown = CliRunner().invoke(main, ["revoke", "--admin", url, "--show"]).stdout
            assert re.search(r"^shared state: read \d+ s ago$", shown, re.MULTILINE)
        assert command(two.sidecar.admin_url, idp, "--show").stdout == f"sub eve of {idp.issuer}: not revoked\n"


def test_a_store_that_hangs_or_is_away(folder: Path, tmp_path: Path, idp: FakeIdp) -> None:
    """The entry counts at its own replica, the command says so, and the others have it when the store is back."""
    token, other = idp.mint(sub="eve"), idp.mint(sub="bob")
    with (
        redis_server(tmp_path, timeout="200ms", more=KEPT) as store,
        replica(folder, "a", idp, store) as one,
        replica(folder, "b", idp, store) as two,
    ):
        child = store.process._child
        assert child is not None
        child.send_signal(signal.SIGSTOP)  # it accepts connections and answers nothing
        for _ in range(2):
            done = command(one.sidecar.admin_url, idp)
            assert done.exit_code == 1
            assert "revoked here; other replicas do not know yet" in done.stderr
        assert (one.check(token), one.check(other), two.check(token)) == (
            "token_revoked",
            "authenticated",
            "authenticated",
        )
        assert b"authz_revocations_unshared 2.0" in one.admin("/metrics")[1]  # each command has an id of its own
        store.process.kill()
        with replica(folder, "c", idp, store, ready=False) as unknowing:
            wait_until(lambda: unknowing.admin("/readyz")[1] == b"waiting for revocations of shared_state\n")
            assert unknowing.check(other) == "revocations_unavailable"
            store.process.start()
            unknowing.await_ready()
            wait_until(lambda: two.check(token) == "token_revoked")
            wait_until(lambda: unknowing.check(token) == "token_revoked")
        done = command(one.sidecar.admin_url, idp)
        assert (done.exit_code, done.stdout) == (0, "revoked: 0 new, 1 known already\n")


def test_a_restart_of_all_forgets_nothing(folder: Path, tmp_path: Path, idp: FakeIdp) -> None:
    """The store keeps what it was configured to keep, and the replicas need no file."""
    token = idp.mint(sub="eve")
    with redis_server(tmp_path, more=KEPT) as store:
        with replica(folder, "a", idp, store) as one:
            assert command(one.sidecar.admin_url, idp).exit_code == 0
        store.process.kill()
        store.process.start()
        store.await_ready()
        with replica(folder, "b", idp, store) as two:
            assert two.check(token) == "token_revoked"


def test_what_others_write_harms_no_one(folder: Path, tmp_path: Path, idp: FakeIdp) -> None:
    """Entries that are none, in a real stream: the event behind them counts."""
    token = idp.mint(sub="eve")
    with redis_server(tmp_path) as store, replica(folder, "a", idp, store) as one:
        client = store.client()
        client.execute("XADD", STREAM, "*", "e", b"\xff" * 1_000_000)
        client.execute("XADD", STREAM, "*", "other", "x", "e", "y")
        client.close()
        with replica(folder, "b", idp, store) as two:
            assert command(two.sidecar.admin_url, idp).exit_code == 0
            wait_until(lambda: one.check(token) == "token_revoked")
        metrics = one.admin("/metrics")[1]
        assert b'authz_revocation_events_total{result="invalid",source="shared_state"} 2.0' in metrics
