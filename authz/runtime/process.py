"""Start a process with the same code and interpreter flags as this one."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

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
_POLL: Final = 0.005  # seconds
_RUN_FROM: Final = "import sys; sys.path.insert(0, {!r}); from authz.__main__ import main; main()"


class Process:
    """A child process in its own process group."""

    def __init__(self, argv: list[str], *, descriptors: Mapping[int, int]) -> None:
        """Start *argv*. *descriptors* maps descriptor numbers of the child to ours. Raises OSError."""
        self._pid: Final = os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, ours, number) for number, ours in descriptors.items()],
            setpgroup=0,
            # Our signal mask is not inherited: signals must be able to end the child while it starts. Only SIGHUP is
            # blocked, because it would end a process that does not handle it yet.
            setsigmask=[signal.SIGHUP],
        )
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process runs."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def end_with(self, pipe: int) -> None:
        """Have the kernel kill the process when the other end of *pipe*, of which it has this one too, is closed.

        The kernel also closes it when this process ends, whatever ends it.
        """
        with suppress(OSError):  # a kernel that cannot
            fcntl.fcntl(pipe, fcntl.F_SETOWN, self._pid)
            fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)

    def wait(self, seconds: float) -> int | None:
        """Wait at most so many seconds for the end of the process, and return what `poll` does."""
        deadline = time.monotonic() + seconds
        while (status := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(_POLL)  # not every sandbox has pidfd_open
        return status

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self._pid, number)


LIFELINE: Final = 3  # the file descriptor by which `start_bound` has a child killed; the child does nothing with it


def start_bound(argv: list[str], kind: socket.SocketKind) -> tuple[Process, socket.socket, int]:
    """Start *argv* with a socket of this *kind* as its stdin, to be killed when a descriptor is closed. Raises OSError.

    Return the process, our end of the socket, and that descriptor.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    their_end, our_end = os.pipe()
    try:
        process = Process(argv, descriptors={0: theirs.fileno(), LIFELINE: their_end})
        process.end_with(their_end)
    except OSError:
        ours.close()
        os.close(our_end)
        raise
    finally:
        theirs.close()
        os.close(their_end)
    return process, ours, our_end


def interpreter() -> list[str]:
    """Return the command that runs the same code as this process, never other code in the working directory."""
    flags = [flag for name, flag in _FLAGS.items() for _ in range(getattr(sys.flags, name))]
    path = sys.path if sys.flags.safe_path else sys.path[1:]  # without the entry that -P omits
    found = PathFinder.find_spec(authz.__name__, path)
    command = [sys.executable, *flags, "-P"]
    if found is not None and found.origin == authz.__file__:
        return [*command, "-m", authz.__name__]
    # This process runs from the working directory, as in a checkout.
    return [*command, "-c", _RUN_FROM.format(str(Path(authz.__file__).parent.parent))]
