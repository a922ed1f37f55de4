"""Proves authz.runtime.loading: a child that checks the configuration answers, or it is said what became of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from authz.config.load import parse
from authz.config.problems import ConfigError
from authz.runtime.checking import check_file
from authz.runtime.loaded import CheckFailedError, unpack
from authz.runtime.loading import Check, load
from tests.tools import ROOT

SAMPLE: Final = ROOT / "tests/data/config.yaml"
TEXT: Final = SAMPLE.read_text()
LONG: Final = "# \N{SNOWMAN}\n" * 500_000
_MINUTES: Final = 300.0


@contextmanager
def child(program: str, *, max_seconds: float = _MINUTES) -> Iterator[Check]:
    """A child that runs another program instead."""
    with Check("authz.yaml", [sys.executable, "-c", program], max_seconds=max_seconds) as check:
        yield check


def test_a_child_checks_as_this_process_does(tmp_path: Path) -> None:
    """A good file, and one with problems."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(TEXT + LONG)
    bad.write_text("version: 2\nrules: []\n")
    assert load(good, pause=lambda: None) == check_file(good)
    with pytest.raises(ConfigError) as there:
        load(bad, pause=lambda: None)
    with pytest.raises(ConfigError) as here:
        parse(bad.read_text(), file=str(bad))
    assert str(there.value) == str(here.value)


def test_a_file_that_cannot_be_read_is_a_problem_of_the_file(tmp_path: Path) -> None:
    """The file is read here, not by the child."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "missing.yaml", pause=lambda: None)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("", "not complete"),
        ("raise SystemExit(7)", "ended with status 7"),
        ("import os; os.kill(os.getpid(), 9)", "was killed, probably because the memory"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by signal 11"),
        ("import sys; sys.stdin.read(); raise SystemExit(3)", "ended with status 3"),
    ],
    ids=["says nothing", "fails", "killed", "crashes", "reads and fails"],
)
@pytest.mark.parametrize("text", [TEXT, LONG], ids=["short", "long"])
def test_a_child_that_ends_without_an_answer_is_an_error(program: str, why: str, text: str) -> None:
    """It is said how it ended, however much of the text it has read."""
    with child(program) as check, pytest.raises(CheckFailedError, match=why):
        unpack(check.run(text))


@pytest.mark.parametrize(
    "program", ["import time; time.sleep(3600)", "import os, time; os.close(0); time.sleep(3600)"], ids=["open", "shut"]
)
def test_a_child_that_hangs_is_killed(program: str) -> None:
    """After its time, whether or not its socket is open; no process is left."""
    with child(program, max_seconds=0.2) as check:
        with pytest.raises(CheckFailedError, match=r"authz\.yaml could not be checked: .* did not end within 0\.2 s"):
            check.run(TEXT)
        process = check._process
    assert process.poll() == -9


def test_a_child_that_answers_without_end_is_stopped() -> None:
    """There is a bound for what is read."""
    endless = child("import os\nwhile True: os.write(0, b'x' * 1048576)")
    with endless as check, pytest.raises(CheckFailedError, match="answered with more than"):
        check.run(TEXT)


def test_a_child_ends_with_its_parent() -> None:
    """A parent that is killed leaves no child behind, even if that has not been given the text yet."""
    program = (
        "import os, signal, sys\n"
        "from authz.runtime.loading import Check\n"
        "check = Check('authz.yaml')\n"
        "print(check._process._pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    read, write = os.pipe()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", program], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)]
    )
    os.close(write)
    with os.fdopen(read) as output:
        said = output.read()  # ends when the child, which has the same stdout, has ended too
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    assert int(said) > 0
