"""A program: a fork server whose workers do what the address of their request says."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Final

from authz.runtime.fork_server import Request, serve_requests

VARIABLE: Final = "GRPC_EXPERIMENTS"
_prepared: list[str] = []


def main() -> None:
    """Serve until the supervisor has ended."""
    serve_requests(lambda: _prepared.append(os.environ.get(VARIABLE, "")), run)


def run(request: Request, handover: int) -> int:
    """Be a worker: describe itself, wait for the end of its supervisor, or fail."""
    match request.listen:
        case "describe":
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            found = {
                "number": request.number,
                "prepared": _prepared,
                "own group": os.getpgrp() == os.getpid(),
                "blocked": sorted(blocked),
                "name": Path("/proc/self/comm").read_text().strip(),
                "on SIGCHLD": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
                "of the server": _list_of_server(),
                "handover": handover,
            }
            os.ftruncate(handover, 0)
            os.pwrite(handover, json.dumps(found).encode(), 0)
            return 7
        case "wait":
            sys.stdin.read()
            return 5
        case _:
            raise ValueError(request.listen)


def _list_of_server() -> list[str]:
    """Return what is open that only the server needs: its sockets, and its lifeline."""
    found = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [each.name for each in found if each.name == "3" or str(each.readlink()).startswith("socket:")]


if __name__ == "__main__":
    main()
