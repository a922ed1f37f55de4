"""Proves that `check-config --fetch` says of a list of revocations what a refresh would find."""

from __future__ import annotations

import json
from pathlib import Path

from authz.demo.loopback import Response
from authz.tooling.revocation_list_probe import probe_lists
from tests.fakes.idp import FakeIdp
from tests.fixtures import A
from tests.unit.config.sample import configure


def test_each_list_is_loaded_once(tmp_path: Path) -> None:
    """A good one by its entries, one with a typo by the entry, one that is not there with what to do."""
    good, typo = tmp_path / "good", tmp_path / "typo"
    good.write_text(json.dumps([{"iss": A, "sid": "1"}, {"iss": A, "sid": "2"}]))
    typo.write_text(json.dumps([{"iss": A, "sid": "1"}, {"iss": A, "sidd": "2"}]))
    with FakeIdp() as server:
        urls = {"gone": {"url": f"{server.url}/l", "insecure": {"http": True}}}
        server.answers["/304"] = lambda _: Response(304)
        urls["same"] = {"url": f"{server.url}/304", "insecure": {"http": True}}
        lists = {"good": {"file": str(good)}, "typo": {"file": str(typo)}, **urls}
        found = probe_lists(configure(more=f"revocation: {json.dumps({'lists': lists})}\n"))
    assert [(each.name, each.ok, each.entries) for each in found] == [
        ("good", True, 2),
        ("typo", False, 1),
        ("gone", False, 0),
        ("same", False, 0),
    ]
    assert list(found[0].lines()) == [f"revocations good: {good}", "  entries       2"]
    assert list(found[1].lines())[2] == '  rejected      entry 2: "sidd" is not a member of an entry'
    assert any("HTTP status 404" in line for line in found[2].lines())
    assert any("check the URL" in line for line in found[2].lines())
    assert "304" in found[3].error
    assert found[1].document()["rejected"] == [{"entry": 2, "why": '"sidd" is not a member of an entry'}]
