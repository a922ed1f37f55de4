"""Signing keys in Debian's redis-server: whole sidecars share them, and a server that hangs holds up no check."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from authz.demo.client import send
from authz.feeds.shared.signing import SharedStore
from authz.feeds.shared.state import SharedStateError
from authz.signing.local import LocalSigner
from authz.signing.rotation import RingKey
from authz.signing.state import SigningState, StateError
from authz.tooling.signing_probe import probe_signing
from tests.fakes.idp import FakeIdp
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.waiting import wait_until
from tests.integration.sidecars import Running, issuer, running
from tests.unit.config.sample import configure
from tests.unit.envoy.serving import short_folder

pytestmark = pytest.mark.needs("redis-server")

SETTINGS: Final = """identity:
  token: {{header: x-token, issuer: "https://gateway.test", audience: [orders], lifetime: 30s}}
signing:
  rotation: {{ahead: 2s, shared_secret_file: "{secret}"}}
  publish: {{max_age: 1s}}
"""


def test_a_value_is_replaced_by_one_of_many(tmp_path: Path) -> None:
    """Of many that read the same value, one replaces it; a value that is absent counts as empty."""
    with redis_server(tmp_path) as server, closing(server.client()) as state:
        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda number: state.replace("key", b"", b"%d" % number), range(32)))
        assert done.count(True) == 1
        value = state.execute("GET", "key")
        assert isinstance(value, bytes)
        assert not state.replace("key", b"", b"again")
        assert state.replace("key", value, b"\\x00\\xff")
        assert state.execute("GET", "key") == b"\\x00\\xff"
        state.execute("LPUSH", "list", "x")
        with pytest.raises(SharedStateError, match="WRONGTYPE"):
            state.replace("list", b"", b"x")


def test_changes_of_many_are_all_made(tmp_path: Path) -> None:
    """Each of eight processes adds a key: none is lost, and what is stored cannot be read without the secret."""
    (tmp_path / "secret").write_bytes(b"s" * 32)
    signers = [LocalSigner.generate("EdDSA") for _ in range(8)]

    def add(signer: LocalSigner) -> None:
        with closing(server.client()) as state:
            store = SharedStore(state, tmp_path / "secret")
            while True:
                try:
                    store.change(lambda known: with_published(known, signer))
                except StateError:  # after five that were faster
                    continue
                return

    with redis_server(tmp_path) as server, closing(server.client()) as state:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, signers))
        found = SharedStore(state, tmp_path / "secret").read()
        assert {key.kid for key in found.ring.keys} == {signer.kid for signer in signers}
        stored = state.execute("GET", "authz:signing")
        assert isinstance(stored, bytes)
        assert not [signer for signer in signers if signer.kid.encode() in stored]


def with_published(state: SigningState, signer: LocalSigner) -> SigningState:
    """Add a key that is published."""
    ring = replace(state.ring, keys=(*state.ring.keys, RingKey(signer.kid, 1.0)))
    return state.with_key(signer).with_ring(ring)


@contextmanager
def replica(folder: Path, idp: FakeIdp, store: RedisServer, secret: Path) -> Iterator[Running]:
    """Run a replica."""
    folder.mkdir()
    rest = f"{store.settings()}{SETTINGS.format(secret=secret)}"
    with running(folder, issuer("a", idp), more=rest) as started:
        started.await_ready()
        yield started


def test_check_config_tries_it(tmp_path: Path) -> None:
    """It reads the keys, and may replace a value; a wrong secret and a server that is away are said."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    with redis_server(tmp_path) as store:
        text = store.settings() + SETTINGS.format(secret=secret)
        config = configure(more=text)
        with closing(store.client()) as state:
            SharedStore(state, secret).change(lambda known: with_published(known, LocalSigner.generate("EdDSA")))
            (found,) = probe_signing(config)
            assert (found.ok, *found.lines()) == (True, f"{found.what}: 1 keys are read, and can be replaced")
        secret.write_bytes(b"another" * 8)
        (wrong,) = probe_signing(config)
        assert (wrong.ok, "not encrypted by this secret" in wrong.finding) == (False, True)
    (away,) = probe_signing(config)
    assert (away.ok, "shared state at" in away.finding) == (False, True)


def described(started: Running) -> dict[str, Any]:
    """Return what the admin port says of the keys."""
    _, body = started.admin("/signing")
    found: dict[str, Any] = json.loads(body)
    return found


def test_replicas_share_keys_and_a_server_that_hangs_holds_up_no_check(tmp_path: Path) -> None:
    """They rotate together; while the server hangs tokens are signed; when it lost everything, it gets it back."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    with (
        short_folder() as folder,
        FakeIdp() as idp,
        redis_server(tmp_path, timeout="300ms") as store,
        closing(store.client()) as state,
    ):
        with replica(folder / "a", idp, store, secret) as one, replica(folder / "b", idp, store, secret) as other:
            first = described(one)["signing"]
            assert described(other)["signing"] == first
            assert send(f"{one.sidecar.admin_url}/signing/rotate", method="POST").status == 202
            wait_until(lambda: described(other)["signing"] not in {None, first})
            second = described(other)["signing"]
            wait_until(lambda: described(one)["signing"] == second)
            child = store.process._child
            assert child is not None
            child.send_signal(signal.SIGSTOP)  # it accepts connections and answers nothing
            wait_until(lambda: "timeout" in str(described(one)["problem"]))
            token = idp.mint()
            assert {one.check(token) for _ in range(50)} == {"authenticated"}
            answer = send(f"{one.sidecar.admin_url}/signing/rotate", method="POST")
            assert (answer.status, b"timeout" in answer.body) == (503, True)
            store.process.kill()
            store.process.start()  # without what it knew
            wait_until(lambda: described(one)["problem"] is None)
            assert state.execute("EXISTS", "authz:signing") == 1
        with replica(folder / "c", idp, store, secret) as later:
            assert described(later)["signing"] == second
