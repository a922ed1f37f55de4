"""Tools that only some tests need: where they are, and the mark `needs` for the tests that need them.

`@pytest.mark.needs("helm")` skips a test by name where Helm is missing, and fails it where REQUIRE_ALL=1 says that
nothing may be missing. .ci/run and the Makefile put tools into .tools/, which git ignores.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TOOLS: Final = ROOT / ".tools"
_COMMANDS: Final = (TOOLS / "bin", TOOLS / "node_modules/.bin", Path(sys.prefix) / "bin")


def find(tool: str) -> Path | None:
    """Find a tool: a folder in .tools/, a command there, beside this Python or on PATH, or an npm package."""
    folder, package = TOOLS / tool, TOOLS / "node_modules" / tool
    if folder.is_dir():
        return folder
    command = shutil.which(tool, path=os.pathsep.join([*map(str, _COMMANDS), os.environ.get("PATH", os.defpath)]))
    if command:
        return Path(command)
    return package if package.is_dir() else None


def path(tool: str) -> str:
    """Path of a tool that the test `needs`."""
    found = find(tool)
    assert found, f"mark the test with needs({tool!r})"
    return str(found)
