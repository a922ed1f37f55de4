"""Proves the console of the real program: by one process, and by two workers together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authz.demo.client import Answer, send
from authz.demo.sidecar import Sidecar
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.integration.crew import crew
from tests.integration.sidecars import config, issuer, running
from tests.unit.admin.console.reader import Page
from tests.unit.envoy.serving import short_folder

PAGES = ("/", "/console/issuers", "/console/decisions", "/console/try", "/console/configuration", "/console/pressure")


class Desk:
    """Where an operator sits: asks a sidecar's admin port as a browser does, or as a command."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.url = sidecar.admin_url

    def page(self, target: str) -> Page:
        answer = send(f"{self.url}{target}")
        assert answer.status == 200, answer.body
        return Page(answer.body)

    def data(self, target: str) -> Any:  # noqa: ANN401 - a JSON document
        return send(f"{self.url}{target}").json()

    def explain(self, **question: object) -> list[dict[str, Any]]:
        answer = send(f"{self.url}/explain", method="POST", body=json.dumps(question).encode())
        assert answer.status == 200, answer.body
        return answer.json()["explanations"]  # type: ignore[no-any-return]

    def press_refresh(self, name: str) -> Answer:
        return send(f"{self.url}/console/refresh", method="POST", body=f"issuer={name}".encode())


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer."""
    with FakeIdp() as provider:
        yield provider


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


def test_one_process_shows_what_it_decided(folder: Path, idp: FakeIdp) -> None:
    """From the id of an error page to the reason; every page answers; a request is explained by the keys it fetched."""
    with running(folder, issuer("a", idp)) as started:
        started.await_ready()
        desk = Desk(started.sidecar)
        token = idp.mint()
        assert [started.check(token), started.check("rubbish"), started.check()] == [
            "authenticated",
            "token_malformed",
            "token_missing",
        ]
        found = desk.data("/decisions")["decisions"]
        assert [each["reason"] for each in found] == ["token_missing", "token_malformed", "authenticated"]
        page = desk.page(f"/console/decisions?decision_id={found[1]['decision_id']}")
        assert "token_malformed" in page.text
        assert "rubbish" not in page.text
        for path in PAGES:
            assert desk.page(path).elements
        (explained,) = desk.explain(path="/items/1", token=token)
        assert (explained["decision"], explained["rule"]) == ("allow", "items")
        assert desk.press_refresh("a").status == 404  # read-only
        assert b'authz_keys_refresh_duration_seconds_count{issuer="a"} 1.0' in started.admin("/metrics")[1]
        wait_until(lambda: len(desk.data("/history")["steps"]) > 0)


def test_a_console_may_be_switched_off(folder: Path, idp: FakeIdp) -> None:
    """Then the admin port has what it had before, and keeps no decisions."""
    with without_console(folder, idp) as desk:
        for path in (*PAGES, "/decisions", "/history", "/console/style.css"):
            assert send(f"{desk.url}{path}").status == 404
        assert send(f"{desk.url}/keys").status == 200


@contextmanager
def without_console(folder: Path, idp: FakeIdp) -> Iterator[Desk]:
    """A sidecar without a console."""
    admin = free_address()
    listen = f"unix:{folder}/authz.sock"
    text = config(issuer("a", idp), listen=listen, admin=f"{admin}\n  console: {{enabled: false}}")
    sidecar = Sidecar(text, admin=admin, folder=folder)
    try:
        sidecar.start()
        yield Desk(sidecar)
    finally:
        sidecar.process.kill()


def test_two_workers_are_one_console(folder: Path, idp: FakeIdp) -> None:
    """Decisions of both, with their worker, in order; each explains by its own keys; steps are added up."""
    with crew(folder, issuer("a", idp)) as two:
        desk = Desk(two.sidecar)
        token = idp.mint()
        assert [two.check(0, token), two.check(1), two.check(0)] == ["authenticated", "token_missing", "token_missing"]
        wait_until(lambda: len(desk.data("/decisions")["decisions"]) == 3)
        found = desk.data("/decisions")
        assert [(each["worker"], each["reason"]) for each in found["decisions"]] == [
            (0, "token_missing"),
            (1, "token_missing"),
            (0, "authenticated"),
        ]
        assert found["silent_workers"] == []
        assert [(each["worker"], each["decision"]) for each in desk.explain(path="/items/1", token=token)] == [
            (0, "allow"),
            (1, "allow"),
        ]
        for path in PAGES:
            assert desk.page(path).elements
        wait_until(lambda: sum(step["reasons"].get("token_missing", 0) for step in desk.data("/history")["steps"]) == 2)
