"""Proves the start of the real process against signals and new files, also as PID 1.

A start is held at a step by a pipe in place of a file, and not by the clock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from authz.runtime.fork_server import _runs
from tests.fakes.idp import FakeIdp
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.integration.crew import WORKER, below, crew, name_of
from tests.integration.sidecars import config, issuer, running
from tests.tools import ROOT, path
from tests.unit.envoy.serving import short_folder

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
HANGS = 300.0  # seconds after which a process that should have ended is said to hang


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as made:
        yield made


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer."""
    with FakeIdp() as provider:
        yield provider


def blocks(pid: int, number: signal.Signals) -> bool:
    """Whether the main thread of a process holds a signal back: from then on none is lost."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "SigBlk":
                return bool(int(value, 16) & 1 << (number - 1))
    return False


def runs_python(pid: int) -> bool:
    """Whether a process is Python by now, and not the one that is about to become it."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().startswith(sys.executable)
    return False


def has_loaded(pid: int, library: str) -> bool:
    """Whether a process has imported a library that is compiled."""
    with suppress(OSError):
        return library in Path(f"/proc/{pid}/maps").read_text()
    return False


def hold_configuration(folder: Path) -> Path:
    """Have the start wait for its configuration: anyone who reads a pipe waits for its writer."""
    file = folder / "authz.yaml"
    os.mkfifo(file)
    return file


def hold_parts(folder: Path) -> Path:
    """Have the start wait at its last step, when everything is imported: for the CA file that goes with cached keys."""
    cached = folder / "cache" / "a.json"
    cached.parent.mkdir()
    cached.touch(mode=0o600)
    cached.write_text('{"format": 1}')
    os.mkfifo(folder / "ca.crt")
    return folder / "ca.crt"


HOLDS: dict[str, Callable[[Path], Path]] = {
    "the configuration is read": hold_configuration,
    "the parts are built": hold_parts,
}


@contextmanager
def being_read(pipe: Path) -> Iterator[None]:
    """Wait until a process has opened a pipe, and let it wait there for what the pipe says."""
    writers: list[int] = []

    def is_open() -> bool:
        with suppress(OSError):
            writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    wait_until(is_open)
    try:
        yield
    finally:
        os.close(writers[0])


@contextmanager
def starting(
    folder: Path, idp: FakeIdp, *before: str, server: str = "", drain: str = "4s"
) -> Iterator[subprocess.Popen[str]]:
    """Begin to start a sidecar; the command *before* runs it."""
    file, socket = folder / "authz.yaml", folder / "authz.sock"
    if not file.exists():
        section = issuer("a", idp, fetch=f"ca_file: {folder}/ca.crt") + f"    cache_dir: {folder}/cache\n"
        file.write_text(config(section, listen=f"unix:{socket}", admin=free_address(), server=server, drain=drain))
    argv = [*before, sys.executable, "-m", "authz", "serve", "--config", str(file)]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True, process_group=0) as child:
        try:
            yield child
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [TERM, INT])
def test_a_signal_at_the_first_line_ends_it_at_once(folder: Path, idp: FakeIdp, number: signal.Signals) -> None:
    """The imports may take seconds: it does not wait for them."""
    hold_configuration(folder)
    with starting(folder, idp) as child:
        wait_until(lambda: blocks(child.pid, number))
        child.send_signal(number)
        assert child.wait(HANGS) == -number


@pytest.mark.parametrize("number", [TERM, INT])
@pytest.mark.parametrize("step", HOLDS)
def test_a_signal_during_the_start_ends_it_at_once(
    folder: Path, idp: FakeIdp, step: str, number: signal.Signals
) -> None:
    """By the signal itself, before anything is bound: it does not start first and drain afterwards."""
    pipe = HOLDS[step](folder)
    with starting(folder, idp) as child, being_read(pipe):
        child.send_signal(number)
        _, said = child.communicate(timeout=HANGS)
        assert (child.returncode, "Traceback" in said) == (-number, False)
        assert not (folder / "authz.sock").exists()


# Linux kills PID 1 after all if its main thread blocks the signal and another thread does not.
ENDED_BY_TERM = {128 + TERM, -TERM}


def apart() -> list[str]:
    """The command that runs another as PID 1; where the system forbids that, the test is skipped."""
    command = [path("unshare"), "--user", "--map-current-user", "--pid", "--fork", "--kill-child"]
    tried = subprocess.run([*command, sys.executable, "-c", ""], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no PID namespace: {tried.stderr.strip()}")
    return command


def child_of(pid: int) -> int:
    """The first child of a process; 0 while it has none."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found[0]) if found else 0


def worker_of(pid: int) -> int:
    """The first worker of a supervisor; 0 while it has none."""
    return next((child for child in below(pid) if name_of(child).startswith(WORKER)), 0)


@pytest.mark.needs("unshare")
def test_a_signal_at_the_first_line_ends_pid_1_at_once(folder: Path, idp: FakeIdp) -> None:
    """The first process of a container is ended by no signal by default, and this one must not be lost."""
    hold_configuration(folder)
    with starting(folder, idp, *apart()) as child:
        wait_until(lambda: runs_python(child_of(child.pid)) and blocks(child_of(child.pid), TERM))
        os.kill(child_of(child.pid), TERM)
        assert child.wait(HANGS) in ENDED_BY_TERM


@pytest.mark.needs("unshare")
@pytest.mark.parametrize("step", HOLDS)
def test_a_signal_during_the_start_ends_pid_1_at_once(folder: Path, idp: FakeIdp, step: str) -> None:
    """By a signal or by an exit status that says which one it was."""
    pipe = HOLDS[step](folder)
    with starting(folder, idp, *apart()) as child, being_read(pipe):
        os.kill(child_of(child.pid), TERM)
        assert child.wait(HANGS) in ENDED_BY_TERM
        assert not (folder / "authz.sock").exists()


@pytest.mark.needs("unshare")
def test_a_second_signal_ends_pid_1_too(folder: Path, idp: FakeIdp) -> None:
    """Its drain would take longer than anyone wants to wait."""
    with starting(folder, idp, *apart(), drain="600s") as child:
        assert child.stderr is not None
        next(line for line in child.stderr if '"ready"' in line)
        pid = child_of(child.pid)
        os.kill(pid, TERM)
        next(line for line in child.stderr if "draining" in line)
        os.kill(pid, TERM)
        assert child.wait(HANGS) in ENDED_BY_TERM


def test_a_signal_during_the_start_of_workers_ends_all(folder: Path, idp: FakeIdp) -> None:
    """Each ends at once; none is left, and neither is a socket or a folder."""
    with starting(folder, idp, server="workers: 2") as child:
        wait_until(lambda: bool(worker_of(child.pid)))
        worker = worker_of(child.pid)
        child.send_signal(TERM)
        assert child.wait(HANGS) == 0
        wait_until(lambda: not _runs(worker))  # it is killed if it had just started, and not waited for
        assert [left.name for left in folder.iterdir()] == ["authz.yaml"]


def test_a_reload_during_the_start_waits_for_its_end(folder: Path, idp: FakeIdp) -> None:
    """SIGHUP ends no process that is about to serve: it reads its configuration once more when it has started."""
    with starting(folder, idp) as child:
        wait_until(lambda: blocks(child.pid, HUP))
        child.send_signal(HUP)
        assert child.stderr is not None
        next(line for line in child.stderr if "configuration reloaded" in line)
        child.send_signal(TERM)
        child.communicate()
        assert child.returncode == 0


def test_other_commands_are_ended_as_ever(tmp_path: Path) -> None:
    """Ctrl-C is for `authz serve` what it is for every program, and for the others too."""
    fifo = tmp_path / "authz.yaml"
    os.mkfifo(fifo)  # anyone who reads it waits
    argv = [sys.executable, "-m", "authz", "check-config", str(fifo)]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        writer = os.open(fifo, os.O_WRONLY)  # returns when it is being read
        child.send_signal(INT)
        _, said = child.communicate()
        os.close(writer)
        assert child.returncode == 1
        assert "Aborted!" in said


# Configuration files that are replaced while it starts.


def test_a_file_that_is_replaced_during_the_start_is_taken_up(folder: Path, idp: FakeIdp) -> None:
    """It was read a moment ago, and the parts are being imported: the new one is found when they run."""
    with running(folder, issuer("a", idp), awaits_socket=False) as sidecar:
        child = sidecar.process._child
        assert child is not None
        wait_until(lambda: has_loaded(child.pid, "cygrpc"))
        file = sidecar.sidecar.config_file
        new = file.with_suffix(".new")
        new.write_text(file.read_text().replace("allow: public", "allow: deny"))
        new.rename(file)
        sidecar.await_ready()
        wait_until(lambda: sidecar.check(path="/public/x") == "policy_denied")


# Workers that start again.


def spoil(file: Path) -> None:
    """Break a configuration."""
    file.write_text("rules: []\n")


@pytest.mark.parametrize("change", [spoil, Path.unlink], ids=["broken", "gone"])
def test_a_worker_comes_back_while_the_file_is_bad(
    folder: Path, idp: FakeIdp, change: Callable[[Path], object]
) -> None:
    """It has the last good configuration, which is not that of the start, and it says that the file is another one."""
    with crew(folder, issuer("a", idp)) as two:
        file = two.sidecar.config_file
        good = file.read_text().replace("allow: public", "allow: deny")
        file.write_text(good)
        os.kill(two.pid, HUP)
        wait_until(lambda: [two.check(number, target="/public/x") for number in (0, 1)] == ["policy_denied"] * 2)
        wait_until(lambda: "will start with the new configuration" in two.process.log.read_text())
        change(file)
        current = "authz_config_last_reload_successful"
        wait_until(lambda: [two.value(current, worker=number) for number in "01"] == [0, 0])
        killed = two.worker(1)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: two.worker(1) not in {0, killed})
        two.await_ready()
        assert two.check(1, target="/public/x") == "policy_denied"
        assert two.check(1, idp.mint()) == "authenticated"
        wait_until(lambda: two.value(current, worker="1") == 0)
        assert two.value("authz_worker_restarts_total", worker="1") == 1
        file.write_text(good.replace("allow: deny", "allow: public"))
        wait_until(lambda: [two.check(number, target="/public/x") for number in (0, 1)] == ["public"] * 2)
        wait_until(lambda: [two.value(current, worker=number) for number in "01"] == [1, 1])
