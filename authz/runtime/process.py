"""Start a process with the same code and interpreter flags as this one."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final, NoReturn, Self

import authz

# Command line flags of the interpreter that a worker would not get from its environment variables.
_FLAGS: Final = {
    "isolated": "-I",
    "ignore_environment": "-E",
    "no_user_site": "-s",
    "no_site": "-S",
    "dont_write_bytecode": "-B",
    "optimize": "-O",
}
_STDIN: Final = 0  # file descriptor
_POLL: Final = 0.005  # seconds
# Our signal mask is not inherited: signals must be able to end the child while it starts. Only SIGHUP is blocked,
# because it would end a process that does not handle it yet.
_BLOCKED: Final = (signal.SIGHUP,)
_CRASHED: Final = 1  # the exit status of Python after an exception
_RUN_FROM: Final = "import sys; sys.path.insert(0, {!r}); from authz.__main__ import main; main()"


class Process:
    """A child process in its own process group."""

    _pid: int
    _status: int | None = None

    def __init__(self, argv: list[str], *, descriptors: Mapping[int, int]) -> None:
        """Start *argv*. *descriptors* maps descriptor numbers of the child to ours. Raises OSError."""
        self._pid = os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in descriptors.items()],
            setpgroup=0,
            setsigmask=_BLOCKED,
        )

    @classmethod
    def fork(cls, run: Callable[[], None]) -> Self:
        """Start a copy of this process that calls *run* and ends. Raises OSError.

        No other thread may run: a copy has only this one, and the locks as they are.
        """
        process = cls.__new__(cls)
        process._pid = os.fork()  # noqa: SLF001 - its own
        if not process._pid:  # noqa: SLF001 - as above
            _run_and_exit(run)
        return process

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process runs."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def kill_when_closed(self, pipe: int) -> None:
        """Let the kernel kill the process when the other end of *pipe* is closed; the process has this end too.

        The kernel also closes it when this process ends, whatever ends it.
        """
        with suppress(OSError):  # a kernel that cannot
            fcntl.fcntl(pipe, fcntl.F_SETOWN, self._pid)
            fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)

    def wait(self, seconds: float) -> int | None:
        """Wait at most *seconds* for the end of the process, and return what `poll` does."""
        deadline = time.monotonic() + seconds
        while (status := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(_POLL)  # not every sandbox has pidfd_open
        return status

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self._pid, number)


def _run_and_exit(run: Callable[[], None]) -> NoReturn:
    """Call *run* in a forked child and exit, without the clean-up of what the parent has started."""
    status = _CRASHED
    try:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, _BLOCKED)
        run()
        status = os.EX_OK
    except BaseException:  # noqa: BLE001 - a process has to end here
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)


LIFELINE: Final = 3  # the file descriptor by which `start_child` has a child killed; the child does nothing with it


@dataclass(frozen=True, slots=True)
class ConnectedChild:
    """A child *process* whose stdin is a socket; *socket* is our end. It is killed when *lifeline* is closed."""

    process: Process
    socket: socket.socket
    lifeline: int


def start_child(argv: list[str], kind: socket.SocketKind) -> ConnectedChild:
    """Start *argv* with a socket of this *kind*. Raises OSError."""
    return _connect(
        kind, lambda ends: Process(argv, descriptors={_STDIN: ends.their_socket, LIFELINE: ends.their_pipe})
    )


def fork_child(run: Callable[[], None]) -> ConnectedChild:
    """Start a copy of this process that calls *run* and ends, with a stream socket. Raises OSError.

    No other thread may run, as for `Process.fork`.
    """
    return _connect(socket.SOCK_STREAM, lambda ends: Process.fork(partial(_run_child, ends, run)))


@dataclass(frozen=True, slots=True)
class _Ends:
    """File descriptors: both ends of a socket and of a pipe."""

    our_socket: int
    our_pipe: int
    their_socket: int
    their_pipe: int


def _connect(kind: socket.SocketKind, start: Callable[[_Ends], Process]) -> ConnectedChild:
    parent_end, child_end = socket.socketpair(socket.AF_UNIX, kind)
    their_pipe, our_pipe = os.pipe()
    try:
        process = start(_Ends(parent_end.fileno(), our_pipe, child_end.fileno(), their_pipe))
        process.kill_when_closed(their_pipe)
    except OSError:
        parent_end.close()
        os.close(our_pipe)
        raise
    finally:
        child_end.close()
        os.close(their_pipe)
    return ConnectedChild(process, parent_end, our_pipe)


def _run_child(ends: _Ends, run: Callable[[], None]) -> None:
    # If the child had our ends too, none of them would close with this process.
    os.close(ends.our_socket)
    os.close(ends.our_pipe)
    os.dup2(ends.their_socket, _STDIN)
    os.close(ends.their_socket)
    run()


def interpreter() -> list[str]:
    """Return the command that runs the same code as this process, never other code in the working directory."""
    flags = [flag for name, flag in _FLAGS.items() for _ in range(getattr(sys.flags, name))]
    path = sys.path if sys.flags.safe_path else sys.path[1:]  # without the entry that -P omits
    spec = PathFinder.find_spec(authz.__name__, path)
    command = [sys.executable, *flags, "-P"]
    if spec is not None and spec.origin == authz.__file__:
        return [*command, "-m", authz.__name__]
    # This process runs from the working directory, as in a checkout.
    return [*command, "-c", _RUN_FROM.format(str(Path(authz.__file__).parent.parent))]
