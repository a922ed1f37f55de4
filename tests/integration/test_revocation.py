"""Proves revocation at real processes: lists, the operator's command, restarts, and workers that share events."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from authz.cli import main
from authz.demo.loopback import Response, json_response
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import wait_until
from tests.integration.crew import crew
from tests.integration.sidecars import issuer, running
from tests.unit.envoy.serving import short_folder

LIST = "/revoked.json"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer, which also has a list of what it revoked."""
    with FakeIdp() as provider:
        yield provider


def revoke(admin: str, *arguments: str) -> str:
    """Run `authz revoke` against a sidecar; return what it prints."""
    done = CliRunner().invoke(main, ["revoke", "--admin", admin, *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_list_at_a_url(folder: Path, idp: FakeIdp) -> None:
    """Readiness waits for it; an entry ends its tokens, and an unchanged list costs one answer without a body."""
    listed: list[object] = []
    asked: list[str | None] = []

    def answer(request: object) -> Response:
        asked.append(dict(getattr(request, "headers", ())).get("if-none-match"))
        tag = f'"{len(listed)}"'
        if asked[-1] == tag:
            return Response(304)
        return json_response({"revoked": listed}, headers=(("ETag", tag),))

    idp.answers[LIST] = lambda _: Response(500)
    more = f"revocation: {{lists: {{theirs: {{url: {idp.url}{LIST}, interval: 1s, insecure: {{http: true}}}}}}}}\n"
    token = idp.mint(jti="one")
    with running(folder, issuer("a", idp), more=more) as sidecar:
        wait_until(lambda: sidecar.admin("/readyz")[1] == b"waiting for revocations of theirs\n")
        assert sidecar.check(token) == "revocations_unavailable"
        idp.answers[LIST] = answer
        sidecar.await_ready()
        assert sidecar.check(token) == "authenticated"
        wait_until(lambda: '"0"' in asked)
        listed.append({"iss": idp.issuer, "jti": "one"})
        wait_until(lambda: sidecar.check(token) == "token_revoked")
        assert sidecar.check(idp.mint(jti="two")) == "authenticated"


def test_the_operator_revokes_and_a_restart_forgets_nothing(folder: Path, idp: FakeIdp) -> None:
    """The command's entry counts when it returns; a process that was killed reads it again."""
    more = f"revocation: {{file: {folder / 'events'}}}\n"
    session, other = idp.mint(sid="s1"), idp.mint(sid="s2")
    with running(folder, issuer("a", idp), more=more) as sidecar:
        sidecar.await_ready()
        assert sidecar.check(session) == "authenticated"
        revoke(sidecar.sidecar.admin_url, "--issuer", idp.issuer, "--sid", "s1")
        assert (sidecar.check(session), sidecar.check(other)) == ("token_revoked", "authenticated")
        assert revoke(sidecar.sidecar.admin_url, "--show").startswith("operator: 1 entries (1 by sid)\n")
    with running(folder, issuer("a", idp), more=more) as sidecar:
        sidecar.await_ready()
        assert (sidecar.check(session), sidecar.check(other)) == ("token_revoked", "authenticated")


def test_one_event_reaches_both_workers(folder: Path, idp: FakeIdp) -> None:
    """Whichever takes it, the other knows it when the command returns; a worker that is killed reads it again."""
    token = idp.mint(sub="eve")
    with crew(folder, issuer("a", idp)) as two:
        two.await_ready()
        assert [two.check(number, token) for number in (0, 1)] == ["authenticated"] * 2
        assert revoke(two.sidecar.admin_url, "--issuer", idp.issuer, "--sub", "eve", "--before", "now") == (
            "revoked: 1 new\n"
        )
        assert [two.check(number, token) for number in (0, 1)] == ["token_revoked"] * 2
        assert revoke(two.sidecar.admin_url, "--show").startswith("operator: 1 entries (1 by sub)\n")
        os.kill(two.worker(1), signal.SIGKILL)
        wait_until(lambda: "worker 1" in two.readiness())
        two.await_ready()
        assert two.check(1, token) == "token_revoked"
        assert json.loads(two.admin("/revocations").body)["silent_workers"] == []
