"""Proves that a test which leaves something behind fails, and no other does in its place."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.tools import ROOT

CONFTEST: Final = """
from tests.leaks import Leaks

def pytest_configure(config):
    config.pluginmanager.register(Leaks())
"""
TESTS: Final = """
import os, pytest, socket, subprocess
kept = []

def start(*argv):
    kept.append(subprocess.Popen(argv))
    return kept[-1]

def test_child():
    start("sleep", "1000")

def test_unawaited():
    os.waitid(os.P_PID, start("true").pid, os.WEXITED | os.WNOWAIT)

def test_grandchild():
    subprocess.run(["sh", "-c", "sleep 1001 &"], check=True)

def test_socket():
    ring = [socket.socket()]
    ring.append(ring)

def test_tidy():
    child = start("sleep", "1002")
    child.kill()
    child.wait()
    with socket.socket():
        pass

@pytest.fixture(scope="module")
def tidy():
    with subprocess.Popen(["sleep", "1003"]) as child:
        yield
        child.kill()

@pytest.fixture(scope="module")
def untidy(tidy):
    start("sleep", "1004")

def test_fixtures(untidy):
    pass

def test_fixtures_again(untidy):
    pass
"""


def test_who_leaves_something_behind_is_named(tmp_path: Path) -> None:
    """A process, one that no one waited for, a child's child, a socket in a ring, and a process of a fixture."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    argv = [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True
    )
    blamed = dict(re.findall(r"at teardown of test_(\w+) _+\nthe test left behind:\n(.*)\n", done.stdout))
    assert re.sub(r"\d\d+,|fd=.*", "N", "\n".join(f"{test}: {what}" for test, what in blamed.items())) == (
        "child: process N which runs: sleep 1000 \n"
        "unawaited: process N which has ended, and no one waited for it: ('true',)\n"
        "grandchild: process N which runs: sleep 1001 \n"
        "socket: unclosed <socket.socket N\n"
        "fixtures_again: process N which runs: sleep 1004 "
    ), done.stdout
    assert done.stdout.count("passed") == 1
    assert "7 passed, 5 errors" in done.stdout
