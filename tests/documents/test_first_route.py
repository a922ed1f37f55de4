"""Proves the first protected route of the README: its files and commands as they stand, with the real Envoy.

Written differently here than on the page: the ports are free ones, and the first line does not make the environment,
for this test runs in it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.documents.pages import Block, blocks
from tests.documents.reader import run
from tests.documents.test_commands import FIRST_ROUTE
from tests.fakes.ports import free_address
from tests.tools import ROOT
from tests.unit.envoy.serving import short_folder

README: Final = ROOT / "README.md"
_ADMIN_PORT: Final = "127.0.0.1:9901"  # of Envoy, unless --admin says otherwise
_STOP: Final = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n"  # also where the block fails half-way


def route() -> Block:
    """The block of commands."""
    (found,) = (block for block in blocks("sh", page=README) if block.text.startswith(FIRST_ROUTE))
    return found


def save_files(folder: Path) -> None:
    """Save the page's two files as the reader does; the sidecar's port for metrics is a free one."""
    (config,), (program,) = blocks("yaml", page=README), blocks("python", page=README)
    for block, name in ((config, "authz.yaml"), (program, "mint.py")):
        assert block.text.startswith(f"# {name}\n")
        (folder / name).write_text(block.text, encoding="utf-8")
    with (folder / "authz.yaml").open("a", encoding="utf-8") as file:
        file.write(f"admin: {{listen: '{free_address()}'}}\n")


def on_free_ports(script: str) -> str:
    """Replace each port of the page by a free one."""
    script = script.replace("--bootstrap", f"--bootstrap --admin {_ADMIN_PORT}")
    for port in ("3000", "8080", "9901"):
        free = free_address().rpartition(":")[2]
        script, found = re.subn(rf"\b{port}\b", free, script)
        assert found
    return script


@pytest.mark.needs("bash", "curl")
def test_first_protected_route() -> None:
    """Each request has the status that its comment says: tokens of a user, of a machine and with a role pass."""
    text = route().text
    first, _, rest = text.partition("\n")
    with short_folder() as folder:
        save_files(folder)
        said = run("set -m\n" + _STOP + first.partition("&& ")[2] + "\n" + on_free_ports(rest), folder)
        assert "allow authenticated" in said
    promised = re.findall(r"^curl -i .*# (\d{3}):?", text, re.MULTILINE)
    assert re.findall(r"^HTTP/1\.1 (\d{3})", said, re.MULTILINE) == promised == ["401", "200", "200", "403", "200"]
    assert '{"order": 7}' in said
    assert "secret" in said


def test_the_page_needs_no_root() -> None:
    """No command of the README asks for the rights of another user."""
    assert not any("sudo" in block.text for block in blocks("sh", page=README))
