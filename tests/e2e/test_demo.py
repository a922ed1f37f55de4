"""`authz demo`, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authz.demo.client import send
from tests.fakes.waiting import HANG_SECONDS, wait_until

DEMO = [sys.executable, "-m", "authz", "demo"]


def children_of(folder: str) -> dict[int, str]:
    """Process ids and command lines of the processes that have files in a folder."""
    lines = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended meanwhile
    return {pid: line for pid, line in lines.items() if folder in line}


@contextmanager
def running_demo(output: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A demo that has said everything, and what it said."""
    with output.open("wb") as stream:
        demo = subprocess.Popen(DEMO, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "Ctrl-C stops everything" in output.read_text() or demo.poll() is not None)
        yield demo, output.read_text()
    finally:
        demo.terminate()
        demo.wait(HANG_SECONDS)


def test_the_demo_plays_once_and_is_content() -> None:
    """Every request goes as it should, and the exit status says so."""
    wide = os.environ | {"COLUMNS": "120"}
    ended = subprocess.run(
        [*DEMO, "--once"], check=False, capture_output=True, text=True, timeout=HANG_SECONDS, env=wide
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    for words in ("forged x-auth-subject", "token_expired", "audience_mismatch", "insufficient_scope", "token_missing"):
        assert words in ended.stdout


def test_the_demo_speaks_json_to_programs() -> None:
    """`--json` gives the same outcomes as one document."""
    ended = subprocess.run(
        [*DEMO, "--once", "--json"], check=False, capture_output=True, text=True, timeout=HANG_SECONDS
    )

    outcomes = json.loads(ended.stdout)
    assert len(outcomes) == 8
    assert all(outcome["passed"] for outcome in outcomes)
    # The last token is by a key that appeared while the demo ran.
    assert outcomes[-1]["kid"] not in {outcome["kid"] for outcome in outcomes[:-1]}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_stays_until_it_is_stopped_and_leaves_nothing(stop: signal.Signals, tmp_path: Path) -> None:
    """The curl lines work while it runs; a stop signal ends every process, and removes every file."""
    with running_demo(tmp_path / "output") as (demo, text):
        [front] = re.findall(r"Envoy +(http://[\d.:]+) ", text)
        [folder] = re.findall(r"logs +(\S+)", text)
        assert send(f"{front}/healthz").status == 200
        assert len(children_of(folder)) == 2

        demo.send_signal(stop)

        assert demo.wait(HANG_SECONDS) == 0
    assert children_of(folder) == {}
    assert not Path(folder).exists()


def test_a_part_that_goes_away_ends_the_demo(tmp_path: Path) -> None:
    """A sidecar that is killed is noticed: the demo says so, ends with status 1, and takes Envoy along."""
    output = tmp_path / "output"
    with running_demo(output) as (demo, text):
        [folder] = re.findall(r"logs +(\S+)", text)
        [sidecar] = [pid for pid, line in children_of(folder).items() if " serve " in line]

        os.kill(sidecar, signal.SIGKILL)

        assert demo.wait(HANG_SECONDS) == 1
    assert "the sidecar ended with status -9" in output.read_text()
    assert children_of(folder) == {}
    shutil.rmtree(folder)  # left for its logs


def test_a_part_that_does_not_start_takes_the_others_along(tmp_path: Path) -> None:
    """Where the sidecar cannot bind its socket, the demo says so, names the log, and leaves no process behind."""
    deep = tmp_path / ("x" * 100)  # a Unix socket's path has room for 107 bytes
    deep.mkdir()

    ended = subprocess.run(
        [*DEMO, "--once"],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        env={**os.environ, "TMPDIR": str(deep)},
    )

    assert ended.returncode == 1
    assert "the sidecar ended" in ended.stderr
    [log] = re.findall(r"log: +(\S+)", ended.stderr)
    assert Path(log).exists()
    assert children_of(str(deep)) == {}
