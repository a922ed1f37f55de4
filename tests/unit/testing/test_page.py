"""The page beside authz.testing is true: its example runs, by pytest itself, as a reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from authz import testing
from authz.testing import Verdict
from tests.tools import ROOT

PAGE: Final = (ROOT / "authz/testing/README.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path: Path) -> None:
    """Its two files, side by side in a folder of their own, are a test run that passes."""
    for name, text in re.findall(r"```[a-z]+\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL):
        (tmp_path / name).write_text(text, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout
    assert f"{PAGE.count('def test_')} passed" in done.stdout


def test_every_name_is_told() -> None:
    """The page names each field of a verdict, and each name that the package publishes."""
    assert [field for field in Verdict.__dataclass_fields__ if f"`{field}`" not in PAGE] == []
    assert [name for name in testing.__all__ if name not in PAGE and name != "Verdict"] == []
