"""Proves the rehearsal of a rotation in authz/feeds/README.md: its commands, against the demo that they are for."""

from __future__ import annotations

import json
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from authz.demo.stack import run_stack
from tests.documents.pages import blocks
from tests.documents.reader import run
from tests.documents.test_commands import ROTATION
from tests.tools import ROOT
from tests.unit.envoy.serving import short_folder

PAGE: Final = ROOT / "authz/feeds/README.md"
_WOULD_DISTURB: Final = 4.0  # seconds between rotations by itself, if it went on with them


def place(text: str, **addresses: str) -> str:
    """Write the addresses that the demo printed where the page has examples."""
    for name, address in addresses.items():
        text, found = re.subn(rf"^{name}=\S+", f"{name}={address}", text, flags=re.MULTILINE)
        assert found == 1
    return text


def published(shown: str) -> set[str]:
    """The ids of the keys in use, from the JSON that `authz keys` printed at the head of *shown*."""
    data, _ = json.JSONDecoder().raw_decode(shown)
    return {key["kid"] for issuer in data["issuers"] for key in issuer["keys"]}


@pytest.mark.needs("bash", "curl")
def test_rehearsal(tmp_path: Path) -> None:
    """Every request has the status that its comment promises, and the keys come and go as it says."""
    (block,) = (block for block in blocks("sh", page=PAGE) if block.text.startswith(ROTATION))
    with short_folder() as folder, run_stack(folder, rotate_every=_WOULD_DISTURB, pause=time.sleep) as stack:
        issuer, admin = stack.provider.issuer, stack.sidecar.admin_url
        script = place(block.text, admin=admin, issuer=issuer, envoy=stack.envoy.url)
        script = script.replace("authz keys --admin", "authz keys --json --admin")
        said = run(script, tmp_path)
    promised = re.findall(r"^call .*# (\d{3})\b", block.text, re.MULTILINE)
    assert re.findall(r"^HTTP/1\.1 (\d{3})", said, re.MULTILINE) == promised == ["200", "200", "200", "200", "401"]
    first, both, last = (published(said[found.start() :]) for found in re.finditer(r'{\n  "issuers"', said))
    assert [len(kids) for kids in (first, both, last)] == [2, 2, 2]
    assert [len(one & other) for one, other in pairwise((first, both, last))] == [1, 1]
    assert not first & last
    assert "key_not_found" in said
