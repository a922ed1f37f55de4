"""Proves that lanes to other systems follow the configuration, and what is known there outlives a reload."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue

import pytest
from prometheus_client import CollectorRegistry

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.config.model import Config
from authz.core.introspection import INTROSPECTION, introspection_need
from authz.core.needs import Need, Unanswered
from authz.demo.loopback import json_response
from authz.feeds.fact_lanes import FactLanes
from authz.telemetry.facts import FactMetrics
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import HANG_SECONDS
from tests.integration.asking import INTROSPECT


def configure(idp: FakeIdp, folder: Path, *, client: str = "rs", more: str = "", asked: bool = True) -> Config:
    """Have the fake provider asked as *client*; *more* are lines of the issuer."""
    (folder / "secret").write_text("s")
    text = (
        f"introspection: {{url: '{idp.url}{INTROSPECT}', client: {{id: {client}, secret_file: {folder / 'secret'}}}}}"
    )
    return parse(
        f"""version: 1
issuers:
  a:
    issuer: {idp.issuer}
    audiences: [api]
    insecure: {{http: true}}
    {text if asked else ""}
    {more}
rules:
  - match: {{paths: [/**]}}
""",
        file="authz.yaml",
    )


def need_of(config: Config) -> Need:
    """The need for what the issuer says of a token, as a decision by *config* names it."""
    (issuer,) = build_snapshot(config).issuers.values()
    assert issuer.introspection is not None
    return introspection_need("opaque", "a", issuer.introspection)


def ask(lanes: FactLanes, need: Need) -> object:
    """Ask, and wait for the answer."""
    answers: SimpleQueue[object | None] = SimpleQueue()
    lanes.by_kind()[INTROSPECTION].ask(need, answers.put)
    return answers.get(timeout=HANG_SECONDS)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"more": "leeway: 5s"}, True),
        ({"client": "other"}, False),
        ({"more": "fetch: {timeout: 4s}"}, False),
    ],
)
def test_a_source_that_is_configured_as_before_keeps_its_answers(
    change: dict[str, str],
    kept: bool,  # noqa: FBT001 - a column
    tmp_path: Path,
) -> None:
    """Another client is another asker: an answer to one is no answer for the other."""
    with FakeIdp() as idp:
        idp.answers[INTROSPECT] = lambda _: json_response({"active": True})
        lanes = FactLanes(FactMetrics(CollectorRegistry()), max_waiting=8)
        try:
            before, after = configure(idp, tmp_path), configure(idp, tmp_path, **change)  # type: ignore[arg-type]
            lanes.reconfigure(before)
            ask(lanes, need_of(before))
            lanes.reconfigure(after)
            assert (lanes.by_kind()[INTROSPECTION].find(need_of(after)) is not None) is kept
        finally:
            lanes.close()


def test_a_source_that_is_gone_is_asked_no_more(tmp_path: Path) -> None:
    """A check that still waits is answered at once."""
    with FakeIdp() as idp:
        lanes = FactLanes(FactMetrics(CollectorRegistry()), max_waiting=8)
        before = configure(idp, tmp_path)
        lanes.reconfigure(before)
        lanes.reconfigure(configure(idp, tmp_path, asked=False))
        assert isinstance(ask(lanes, need_of(before)), Unanswered)
        assert idp.count(INTROSPECT) == 0


def test_a_token_is_an_answer_for_one_configuration(tmp_path: Path) -> None:
    """The question is known by who asks whom: another URL or client makes it another."""
    with FakeIdp() as idp:
        assert need_of(configure(idp, tmp_path)) == need_of(configure(idp, tmp_path, more="leeway: 5s"))
        assert need_of(configure(idp, tmp_path)) != need_of(configure(idp, tmp_path, client="other"))
