"""Proves authz.runtime.loading: a child that checks the configuration answers, or it is said what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from authz.config.load import parse
from authz.config.problems import ConfigError
from authz.runtime.checking import check_file
from authz.runtime.loaded import CheckFailedError, unpack
from authz.runtime.loading import Check, load
from tests.fakes.waiting import wait_until
from tests.tools import ROOT
from tests.unit.config.sample import SMALL

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


def test_a_child_for_a_reload_leaves_the_processor_to_checks() -> None:
    """It runs on the core of the thread that decides, if there is but one."""
    with Check("authz.yaml") as check:
        ours, theirs = (
            partial(os.getpriority, os.PRIO_PROCESS, pid) for pid in (os.getpid(), check._child.process._pid)
        )
        wait_until(lambda: theirs() == min(ours() + 10, 19))


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
        process = check._child.process
    assert process.poll() == -9


def test_a_child_that_answers_without_end_is_stopped() -> None:
    """There is a bound for what is read."""
    endless = child("import os\nwhile True: os.write(0, b'x' * 1048576)")
    with endless as check, pytest.raises(CheckFailedError, match="answered with more than"):
        check.run(TEXT)


STARTED: Final = "import os, signal\nfrom authz.runtime.loading import Check\nchild = Check('authz.yaml')._child\n"
FORKED: Final = (
    "import os, signal, time\n"
    "from authz.runtime.process import fork_child\n"
    "child = fork_child(lambda: time.sleep(3600))\n"
)


@pytest.mark.parametrize("start", [STARTED, FORKED], ids=["started", "forked"])
def test_a_child_ends_with_its_parent(start: str) -> None:
    """A parent that is killed leaves no child behind, even if that has not been given the text yet."""
    program = f"{start}print(child.process._pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    read, write = os.pipe()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", program], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)]
    )
    os.close(write)
    with os.fdopen(read) as output:
        said = output.read()  # ends when the child, which has the same stdout, has ended too
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    assert int(said) > 0


# A child that is forked: from another process, since this one may have threads.

BEGIN: Final = "import os, signal, sys\nfrom pathlib import Path\nfrom authz.runtime.process import fork_child\n"


def run(program: str, *arguments: str) -> str:
    """Run a program; return what it prints."""
    command = [sys.executable, "-c", BEGIN + program, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_MINUTES)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_child_checks_as_one_that_is_started(tmp_path: Path) -> None:
    """It reads the text from its socket, and the process that serves has another form of the sections."""
    good = tmp_path / "good.yaml"
    good.write_text(TEXT + LONG)
    program = (
        "from authz.config import plain\n"
        "plain.choose(plain.Form.PLAIN)\n"
        "def check():\n"
        "    plain.choose(plain.Form.CHECKED)\n"
        "    from authz.runtime.checking import main\n"
        "    main(sys.argv[1])\n"
        "child = fork_child(check)\n"
        "from authz.runtime.loading import Check\n"
        "with Check(sys.argv[1], child=child) as running:\n"
        "    packed = running.run(Path(sys.argv[1]).read_text())\n"
        "assert 'pydantic' not in sys.modules\n"
        "print(packed.hex())\n"
    )
    assert unpack(bytes.fromhex(run(program, str(good)))) == check_file(good)


def test_a_forked_child_can_be_ended_and_is_in_no_group_of_ours() -> None:
    """What this process blocks is no matter to it, only a SIGHUP that it does not handle; nor is a Ctrl-C."""
    program = (
        "ours = os.getpgrp()\n"
        "def tell():\n"
        "    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "    own = os.getpgrp() == os.getpid() != ours\n"
        "    os.write(0, repr((blocked == {signal.SIGHUP}, own)).encode())\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD])\n"
        "child = fork_child(tell)\n"
        "print(child.socket.makefile().read(), child.process.wait(300))\n"
    )
    assert run(program) == "(True, True) 0\n"


def test_a_forked_child_that_fails_goes_no_further() -> None:
    """It ends there with the status of an error, and does not go on as a second process that serves."""
    program = (
        "def fail():\n"
        "    sys.stderr = sys.stdout\n"
        "    raise ValueError('a slip')\n"
        "try:\n"
        "    child = fork_child(fail)\n"
        "    print(child.process.wait(300), flush=True)\n"
        "finally:\n"
        "    print('the parent goes on')\n"
    )
    said = run(program)
    assert "ValueError: a slip" in said
    assert said.endswith("1\nthe parent goes on\n")
    assert said.count("goes on") == 1


def test_a_signal_that_comes_while_a_process_is_forked_is_received_afterwards() -> None:
    """For that time the guard of the start has no thread: a process with threads must not be forked."""
    program = (
        "import threading\n"
        "from authz.runtime.signals import StartGuard\n"
        "guard = StartGuard()\n"
        "before = threading.active_count()\n"
        "with guard.paused():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(before, threading.active_count(), flush=True)\n"
        "guard._thread.join()\n"
        "print('not ended')\n"
    )
    command = [sys.executable, "-c", BEGIN + program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_MINUTES)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "2 1\n")


def test_sections_have_one_form() -> None:
    """It may be chosen until the first one is defined. A process that only checks does not read their docstrings."""
    program = (
        "from authz.config import plain\n"
        "for form in (plain.Form.PLAIN, plain.Form[sys.argv[1]]):\n"
        "    plain.choose(form)\n"
        "from authz.config.model import Server\n"
        "print(Server.model_fields['listen'].description is not None)\n"
        "plain.choose(form)\n"
        "try:\n"
        "    plain.choose(plain.Form.PLAIN)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    assert run(program, "CHECKED") == "False\nsections are defined already\n"
    assert run(program, "DESCRIBED") == "True\nsections are defined already\n"


def test_no_collection_looks_through_many_rules_after_a_reload(tmp_path: Path) -> None:
    """It would stop all threads; and none is needed, for nothing is left of rules that are no longer used."""
    file = tmp_path / "many.yaml"
    names = ", ".join(f"{{match: {{paths: [/{number}]}}}}" for number in range(1_001))
    file.write_text(SMALL + f"rules: [{names}]\n")
    program = (
        "import gc\n"
        "from authz.core.policy import Rule\n"
        "from authz.runtime.snapshots import SnapshotBuilder\n"
        "def count():\n"
        "    return sum(isinstance(each, Rule) for each in gc.get_objects())\n"
        "snapshot = SnapshotBuilder(nonce_secret=b'').load(Path(sys.argv[1]))[1]\n"
        "print(gc.isenabled(), count())\n"
        "gc.disable()\n"
        "gc.unfreeze()\n"
        "print(count())\n"
        "del snapshot\n"
        "print(count())\n"
    )
    assert run(program, str(file)).split() == ["True", "0", "1001", "0"]
