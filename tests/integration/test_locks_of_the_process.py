"""Proves that the deciding thread takes no lock that background work of a process may hold for long.

All parts of a process are there: facts from other systems, tokens for the upstream, revocations, replayed proofs,
throttled clients, the console.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

import pytest

from authz.config.address import UnixAddress
from authz.core.dpop import ProofUse
from authz.core.needs import PROOF, Need
from authz.core.revocation import RevocationEntry, RevokedBy
from authz.demo.loopback import json_response
from authz.demo.signing import SigningKey
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.checker import Checker
from authz.feeds.revocations import OPERATOR
from authz.files.watch import FileWatch
from authz.runtime.app import App
from authz.runtime.checking import check_file
from tests.fakes.idp import FakeIdp
from tests.fakes.pdp import EVALUATION
from tests.fakes.ports import free_address
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.fixtures import ask
from tests.integration.asking import INTROSPECT
from tests.integration.test_locks import holding, locks_within, on_the_judging_thread
from tests.unit.envoy.asking import told, write_check
from tests.unit.envoy.serving import short_folder

CONFIG: Final = """version: 1
server: {{listen: "unix:{folder}/authz.sock"}}
admin: {{listen: "{admin}"}}
issuers:
  a:
    issuer: {idp.issuer}
    audiences: [api]
    algorithms: [ES256]
    insecure: {{http: true}}
    introspection: {{url: "{idp.url}{introspect}", client: {{id: rs, secret_file: {folder}/secret}}, {long}}}
pdps:
  policies: {{url: "{idp.url}{evaluation}", cache: 1h, {long}, insecure: {{http: true}}}}
rules:
  - name: records
    match: {{paths: ["/records/{{id}}"]}}
    require:
      pdp: {{name: policies, action: {{name: read}}, resource: {{type: record, id: "{{id}}"}}}}
  - name: rest
    match: {{paths: ["/**"]}}
identity:
  token: {{audience: [orders], issuer: https://gateway.test, header: x-token, lifetime: 1h}}
signing: {{keys: {{main: {{kind: memory}}}}}}
throttle: {{failures: 5, window: 1h}}
revocation: {{file: {folder}/revoked}}
"""
# Held for one operation on a dict or a number, and never while anything is computed, written or waited for: each guards
# what the deciding thread writes and a scrape, a summary or an exporter reads.
BRIEF: Final = frozenset({"DecisionLog", "HeavyHitters", "MutexValue"})
OPAQUE: Final = "XMQdFed_ds5t"
HERE: Final = "192.0.2.1"


class Process:
    """A process with everything, in this one."""

    def __init__(self, idp: FakeIdp, folder: Path) -> None:
        (folder / "secret").write_text("secret\n")
        file = folder / "authz.yaml"
        places = {"folder": folder, "admin": free_address(), "introspect": INTROSPECT, "evaluation": EVALUATION}
        file.write_text(CONFIG.format(idp=idp, long="timeout: 10s, max_wait: 10s", **places))
        watch = FileWatch(file)
        self.app = App(file, check_file(file), watch=watch, listen=UnixAddress(f"{folder}/authz.sock"))
        self._checker: Checker = self.app._server._service._checker

    def ask(self, token: str, path: str) -> wire.CheckResponse:
        """Send one Check, and wait for its answer."""
        answers = SimpleQueue[bytes]()
        answer = self.decide(token, path)
        if isinstance(answer, bytes):
            answers.put(answer)
        else:
            answer(answers.put)
        return wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))

    def decide(self, token: str, path: str) -> Any:  # noqa: ANN401 - an answer, or what gets one
        """Have one Check answered, or begin to."""
        request = write_check(ask(token, path=path, source_address=HERE))
        return self._checker.check(request, received=time.monotonic(), time_left=HANG_SECONDS)


@pytest.fixture
def process() -> Iterator[tuple[Process, FakeIdp]]:
    """A process that serves, and its issuer, which is also its PDP."""
    with FakeIdp() as idp, short_folder() as folder:
        opaque = {
            "active": True,
            "token_type": "Bearer",
            "iss": idp.issuer,
            "aud": "api",
            "sub": "carol",
            "exp": int(time.time()) + 3600,
        }
        idp.answers[INTROSPECT] = lambda _: json_response(opaque)
        idp.answers[EVALUATION] = lambda _: json_response({"decision": True})
        made = Process(idp, folder)
        made.app.start()
        made.app.become_ready()
        try:
            wait_until(lambda: not made.app._readiness.waiting_for())
            yield made, idp
        finally:
            drain = Thread(target=made.app.drain, daemon=True)
            drain.start()
            drain.join(HANG_SECONDS)


def test_no_check_waits_for_what_is_done_in_the_background(process: tuple[Process, FakeIdp]) -> None:
    """With every lock of the process held that is not brief, what it knows is decided as without them."""
    sidecar, idp = process
    alice, eve = idp.mint(sub="alice"), idp.mint(sub="eve", sid="s1")
    forged = idp.mint(key=SigningKey.create("ES256", kid=idp.key.kid))
    sidecar.app._revocations.events.revoke([RevocationEntry(RevokedBy.SESSION, idp.issuer, "s1")], OPERATOR)
    checks = {
        (alice, "/records/1"): "authenticated",
        (alice, "/other"): "authenticated",
        (OPAQUE, "/other"): "authenticated",
        (eve, "/other"): "token_revoked",
        (forged, "/other"): "signature_invalid",
    }
    for _ in range(2):  # what is cached at its second use, too
        assert {check: told(sidecar.ask(*check)) for check in checks} == checks
    locks = locks_within(*vars(sidecar.app).values())
    held = {owner: found for owner, found in locks.items() if owner not in BRIEF}
    assert held.keys() >= {
        "Feed",
        "SnapshotStore",
        "SourceLane",
        "FactCache",
        "RevocationEvents",
        "RevocationFile",
        "Keyring",
    }
    with holding(held):
        for check, reason in checks.items():
            answer = on_the_judging_thread(partial(sidecar.decide, *check))
            assert isinstance(answer, bytes), f"{check[1]}: nothing was missing"
            assert told(answer) == reason
        proofs = sidecar.app._gatherer.lanes[PROOF]
        need = Need(PROOF, "proofs", "a proof", payload=f"{time.time() + 60} thumbprint")
        assert on_the_judging_thread(partial(proofs.find, need)) is ProofUse.FIRST
        assert on_the_judging_thread(partial(proofs.find, need)) is ProofUse.REPLAYED
