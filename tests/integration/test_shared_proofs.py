"""Proves that a used proof is known everywhere: at other workers, at other replicas, and after a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import pytest

from authz.core.key import thumbprint_of
from tests.fakes.idp import FakeIdp, fail, say
from tests.fakes.pdp import EVALUATION
from tests.fakes.ports import free_address
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.waiting import wait_until
from tests.fixtures import ABSENT, ask
from tests.integration.crew import crew
from tests.integration.sidecars import Running, config, issuer, running
from tests.proofs import key, prove, token_hash
from tests.unit.envoy.asking import headers_of, read, told, write_check
from tests.unit.envoy.serving import SECONDS, method, short_folder

pytestmark = pytest.mark.needs("redis-server")

JKT: Final = thumbprint_of(dict(key().public()))
_SECRET: Final = "x" * 32

Check = Callable[..., str]


def bound_issuer(idp: FakeIdp) -> str:
    """Write an issuer whose tokens may be bound."""
    return f"{issuer('a', idp)}    dpop: allowed\n"


def settings(folder: Path, store: RedisServer, more: str = "") -> str:
    """Write what replicas have in common."""
    (folder / "nonce").write_text(_SECRET)
    return f"{store.settings()}dpop: {{nonce_secret_file: {folder / 'nonce'}}}\n{more}"


@contextmanager
def replica(
    folder: Path, idp: FakeIdp, store: RedisServer, *, more: str = "", require: str = ""
) -> Iterator[tuple[Running, Check]]:
    """Run a replica; yield it, and what makes a check of it."""
    folder.mkdir()
    rest = f"workers: 1\n{settings(folder, store, more)}"
    with running(folder, bound_issuer(idp), server=rest, require=require) as started:
        started.await_ready()
        yield started, checks_of(started.channel)


def checks_of(channel: grpc.Channel) -> Check:
    """Return what makes a check by this channel."""

    def check(token: str, proof: str = "") -> str:
        headers = {"authorization": f"DPoP {token}", "dpop": proof} if proof else {"authorization": f"Bearer {token}"}
        return str(told(method(channel)(write_check(ask(headers=headers, path="/items/1")), timeout=SECONDS)))

    return check


def proof_for(token: str, name: str, *, iat: int | None = None, nonce: object = ABSENT) -> str:
    """Write the proof with this jti."""
    iat = int(time.time()) if iat is None else iat
    return prove(htu="https://api.test/items/1", ath=token_hash(token), jti=name, iat=iat, nonce=nonce)


def test_replicas_accept_each_other_s_nonces(tmp_path: Path) -> None:
    """By the secret of their revocations alone: a client with a wrong clock repeats its request at another replica."""
    (tmp_path / "secret").write_text(_SECRET)
    with short_folder() as folder, FakeIdp() as idp, redis_server(tmp_path) as store:
        token, rest = idp.mint(cnf={"jkt": JKT}), f"workers: 1\n{store.settings()}"
        rest += f"revocation: {{shared: {{secret_file: {tmp_path}/secret}}}}\n"
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        with (
            running(folder / "a", bound_issuer(idp), server=rest) as one,
            running(folder / "b", bound_issuer(idp), server=rest) as two,
        ):
            one.await_ready()
            two.await_ready()
            headers = {"authorization": f"DPoP {token}", "dpop": proof_for(token, "late", iat=1)}
            check = write_check(ask(headers=headers, path="/items/1"))
            refused = headers_of(read(method(one.channel)(check, timeout=SECONDS)))
            again = proof_for(token, "again", iat=1, nonce=refused["dpop-nonce"])
            assert [checks_of(each.channel)(token, again) for each in (two, one)] == ["authenticated", "proof_invalid"]


def test_a_proof_is_accepted_once_by_all(tmp_path: Path) -> None:
    """At a worker, then at the other one, at another replica, and at a replica that was started since: refused."""
    with short_folder() as folder, FakeIdp() as idp, redis_server(tmp_path) as store:
        token = idp.mint(cnf={"jkt": JKT})
        proofs = [proof_for(token, str(number)) for number in range(4)]
        with (
            crew(folder, bound_issuer(idp), more=settings(folder, store)) as two,
            replica(folder / "b", idp, store) as (_, third),
        ):
            checks = [*map(checks_of, two.channels), third]
            first = [checks[number % 3](token, proof) for number, proof in enumerate(proofs)]
            again = [check(token, proof) for proof in proofs for check in checks]
        with replica(folder / "c", idp, store) as (_, later):
            restarted = [later(token, proof) for proof in proofs]
            assert later(token, proof_for(token, "new")) == "authenticated"
    assert first == ["authenticated"] * 4
    assert set(again) == set(restarted) == {"proof_invalid"}


def count_of(store: RedisServer) -> int:
    """How many proofs the store remembers: replicas write of revocations there too."""
    client = store.client()
    try:
        found = client.execute("KEYS", "*:proof:*")
        assert isinstance(found, list)
        return len(found)
    finally:
        client.close()


def test_a_proof_is_used_up_by_an_answer_at_all_replicas(tmp_path: Path) -> None:
    """Not by a 503 while the PDP is down; by an allow; and by a denial, also if the PDP would allow later."""
    with short_folder() as folder, FakeIdp() as idp, FakeIdp() as pdp, redis_server(tmp_path) as store:
        token = idp.mint(cnf={"jkt": JKT})
        more = f"pdps: {{policies: {{url: '{pdp.url}{EVALUATION}', max_wait: 10s, timeout: 10s}}}}\n"
        with (
            replica(folder / "a", idp, store, more=more, require="{pdp: policies}") as (_, first),
            replica(folder / "b", idp, store, more=more, require="{pdp: policies}") as (_, second),
        ):
            checks = (first, second)
            allowed, denied = proof_for(token, "allowed"), proof_for(token, "denied")
            pdp.answers[EVALUATION] = fail(503)
            assert [check(token, allowed) for check in checks] == ["pdp_unavailable"] * 2
            pdp.answers[EVALUATION] = say(b'{"decision":true}')
            assert first(token, allowed) == "authenticated"
            assert [check(token, allowed) for check in checks] == ["proof_invalid"] * 2
            pdp.answers[EVALUATION] = say(b'{"decision":false}')
            assert second(token, denied) == "pdp_denied"
            wait_until(lambda: count_of(store) == 2)
            pdp.answers[EVALUATION] = say(b'{"decision":true}')
            assert [check(token, denied) for check in checks] == ["proof_invalid"] * 2


def test_without_its_store_a_proof_is_neither_accepted_nor_refused(tmp_path: Path) -> None:
    """503, also while the store hangs; tokens without a proof pass as ever; and the store's return ends it."""
    with short_folder() as folder, FakeIdp() as idp, redis_server(tmp_path, timeout="200ms") as store:
        token, free = idp.mint(cnf={"jkt": JKT}), idp.mint()
        with replica(folder / "a", idp, store) as (started, check):
            accepts = partial(_accepts, check, token)
            wait_until(accepts)
            child = store.process._child
            assert child is not None
            child.send_signal(signal.SIGSTOP)  # it accepts connections and answers nothing
            reasons = [check(token, proof_for(token, f"hangs {number}")) for number in range(8)]
            assert reasons == ["overloaded"] * 8
            assert check(free) == "authenticated"
            store.process.kill()
            assert check(token, proof_for(token, "away")) == "overloaded"
            store.process.start()
            wait_until(accepts)
            _, metrics = started.admin("/metrics")
    assert b'authz_facts_total{kind="proof",result="breaker_open",source="shared_state"}' in metrics
    assert b'authz_facts_total{kind="proof",result="timeout",source="shared_state"}' in metrics


def _accepts(check: Check, token: str) -> bool:
    """Whether a new proof is accepted."""
    return check(token, proof_for(token, f"{time.monotonic_ns()}")) == "authenticated"


def test_loosened_each_process_goes_on_by_itself(tmp_path: Path) -> None:
    """It accepts a proof once, and its metrics count what it did not know for sure."""
    loosened = "insecure: {dpop_without_shared_state: true}\n"
    with short_folder() as folder, FakeIdp() as idp, redis_server(tmp_path) as store:
        token = idp.mint(cnf={"jkt": JKT})
        with replica(folder / "a", idp, store, more=loosened) as (started, check):
            store.process.kill()
            once = proof_for(token, "once")
            assert [check(token, once) for _ in range(2)] == ["authenticated", "proof_invalid"]
            _, metrics = started.admin("/metrics")
    assert b'authz_facts_total{kind="proof",result="local",source="shared_state"} 1.0' in metrics
    assert b"authz_insecure_options 2.0" in metrics  # and the issuer over http


def test_a_missing_library_is_named_at_the_start(tmp_path: Path) -> None:
    """And nothing serves without what was configured."""
    (tmp_path / "valkey.py").write_text("raise ImportError('not installed')\n")
    text = config(
        "  a: {issuer: https://login.example.com/, audiences: [api]}\n",
        listen=f"unix:{tmp_path}/a.sock",
        admin=free_address(),
        server="workers: 1\nshared_state: {url: redis://localhost}",
    )
    (tmp_path / "authz.yaml").write_text(text)
    argv = [sys.executable, "-m", "authz", "serve", "--config", str(tmp_path / "authz.yaml")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(argv, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 3
    assert "shared_state needs the extra [shared]" in done.stderr
