"""Start workers by fork from a process that has imported all that they need, and has done nothing else.

What was imported is in memory once for all workers, and a restarted worker need not import it again. gRPC must not be
forked once it runs, nor may threads: so the supervisor does not fork itself.

Rules of this file:
1. The fork server has one thread. It imports gRPC, but opens no channel and no server; it reads no file of ours.
2. Variables for gRPC are set before it is imported: they come with the first request.
3. A worker inherits the code, the signal mask and stderr, and gets its descriptors with the request.
4. The server tells the supervisor of the start and the end of each worker, and wakes it by SIGCHLD. If the server ends,
   its workers go on; the next one is started by a new server.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from authz.runtime.process import LIFELINE, interpreter, start_child
from authz.runtime.signals import END

_COMMAND: Final = "_fork"  # of authz.__main__
_SOCKET: Final = 0  # file descriptor of the server
_STDIN: Final = 0
_MAX_MESSAGE: Final = 65_536  # octets
_MAX_DESCRIPTORS: Final = 2
_UNKNOWN: Final = 255  # the exit status of a worker whose server has ended before it
_MAX_SECONDS: Final = 60.0  # for the end of a server that was killed
_CRASHED: Final = 1  # the exit status of Python after an exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A worker to start: its *number*, its addresses, and the variables to set before gRPC is imported."""

    number: int
    file: str
    listen: str
    admin_socket: str
    environment: Mapping[str, str] = field(default_factory=dict)


class ForkServer:
    """A fork server, started when this is created, and again if it has ended."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        """*command* starts another program than ours. Raises OSError."""
        self._command: Final = [*(command or [*interpreter(), _COMMAND])]
        self._workers: dict[int, ForkedWorker] = {}  # by number
        self.generation = 0
        self._alive = False
        self._open()

    def start(self, request: Request, *, lifeline: int, handover: int) -> ForkedWorker:
        """Request a worker that gets these descriptors. Raises OSError."""
        self.read_messages()
        if not self._alive:
            self.close()
            self._open()
        socket.send_fds(self._child.socket, [json.dumps(asdict(request)).encode()], [lifeline, handover])
        worker = self._workers[request.number] = ForkedWorker(self)
        return worker

    def serves(self, generation: int) -> bool:
        """Read which workers have started and ended; return whether the server of this *generation* runs."""
        self.read_messages()
        return self._alive and self.generation == generation

    def read_messages(self) -> None:
        """Note which workers have started and ended, and whether the server has."""
        while self._alive:
            try:
                message = self._child.socket.recv(_MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if message:
                change = json.loads(message)
                self._workers[change["number"]].note(change["pid"], change["status"])
            else:
                self._alive = False
                self._child.process.poll()  # so that no zombie is left

    def close(self) -> None:
        """End the server; a worker that it has just started ends too, if it was sent a signal to end."""
        self._child.process.send(signal.SIGKILL)
        self._child.process.wait(_MAX_SECONDS)
        self.read_messages()
        self._alive = False
        self._child.socket.close()
        os.close(self._child.lifeline)

    def _open(self) -> None:
        # Each message is one whole, and comes with its descriptors.
        self._child = start_child(self._command, socket.SOCK_SEQPACKET)
        self._child.socket.settimeout(0)
        self._alive = True
        self.generation += 1


class ForkedWorker:
    """A worker: an `authz.runtime.supervisor.Child`."""

    def __init__(self, server: ForkServer) -> None:
        self._server: Final = server
        self._generation: Final = server.generation
        self._pid: int | None = None
        self._status: int | None = None
        self._waiting: int | None = None  # a signal for a worker that has not started yet

    def note(self, pid: int, status: int | None) -> None:
        """Note that it runs as *pid*, or that it has ended with *status*."""
        self._pid = pid
        if status is not None:
            self._status = self._status or status
        elif self._waiting is not None:
            _send(pid, self._waiting)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process runs or is about to start."""
        if self._status is None and not self._server.serves(self._generation) and self._status is None:
            self._status = self._find_status()
        return self._status

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended. One that has not started yet does not start."""
        if self.poll() is not None:
            return
        if self._pid is not None:
            _send(self._pid, number)
        elif number in {*END, signal.SIGKILL}:
            self._waiting, self._status = signal.SIGKILL, -number
        else:
            self._waiting = number

    def _find_status(self) -> int | None:
        """Return the status of a worker whose server has ended: it may have become our child, or that of another."""
        if self._pid is None:
            return _UNKNOWN
        with suppress(ChildProcessError):
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(status) if pid else None
        return None if _runs(self._pid) else _UNKNOWN


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has ended just now
        os.kill(pid, number)


def serve_requests(prepare: Callable[[], None], run: Callable[[Request, int], int]) -> None:
    """Run as the fork server until the supervisor closes its end.

    *prepare* is called once, before the first fork; *run* is called in each worker, with the descriptor of its
    handover, and returns the exit status.
    """
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    supervisor = socket.socket(fileno=_SOCKET)
    workers: dict[int, int] = {}  # number by pid
    ready = False
    while True:
        select.select([supervisor.fileno(), woken], [], [])
        _reap(workers, supervisor, woken)
        message, descriptors = _receive(supervisor)
        if message is None:
            continue
        if not message:
            return
        request = Request(**json.loads(message))
        if not ready:
            os.environ.update(request.environment)
            prepare()
            gc.collect()
            gc.freeze()  # a collection would write to each object, and so copy its page in each worker
            ready = True
        pid = os.fork()
        if not pid:
            supervisor.detach()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (woken, wake, LIFELINE):
                os.close(end)
            _run_worker(request, descriptors, run)
        workers[pid] = request.number
        for descriptor in descriptors:
            os.close(descriptor)
        _notify(supervisor, request.number, pid, None)


def _receive(supervisor: socket.socket) -> tuple[bytes | None, list[int]]:
    """Return the next request and its descriptors; None if there is none yet, and nothing if there will be none."""
    descriptors = array("i")
    space = socket.CMSG_LEN(_MAX_DESCRIPTORS * descriptors.itemsize)
    try:  # `socket.recv_fds` ignores its flags, and would wait
        message, ancillary, _, _ = supervisor.recvmsg(_MAX_MESSAGE, space, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None, []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data)
    return message, [*descriptors]


def _reap(workers: dict[int, int], supervisor: socket.socket, woken: int) -> None:
    with suppress(BlockingIOError):
        os.read(woken, _MAX_MESSAGE)
    for worker in [*workers]:
        pid, status = os.waitpid(worker, os.WNOHANG)
        if pid:
            _notify(supervisor, workers.pop(pid), pid, os.waitstatus_to_exitcode(status))


def _notify(supervisor: socket.socket, number: int, pid: int, status: int | None) -> None:
    supervisor.send(json.dumps({"number": number, "pid": pid, "status": status}).encode())
    os.kill(os.getppid(), signal.SIGCHLD)


def _run_worker(request: Request, descriptors: Sequence[int], run: Callable[[Request, int], int]) -> NoReturn:
    """Run as a worker and exit, without the clean-up of what the server has started."""
    status = _CRASHED
    try:
        lifeline, handover = descriptors
        os.dup2(lifeline, _STDIN)
        os.close(lifeline)
        os.setpgid(0, 0)
        with suppress(OSError):  # what `ps` and `top` show as the command
            Path("/proc/self/comm").write_text(f"authz-worker-{request.number}")
        status = run(request, handover)
    except BaseException:  # noqa: BLE001 - a process has to end here
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
