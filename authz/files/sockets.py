"""Stale Unix sockets: those of processes that were killed."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Final

_CONNECT_SECONDS: Final = 1.0


def remove_stale_socket(path: Path) -> None:
    """Remove a socket that no process listens on. A process that is slow to accept still listens.

    Raises OSError if a process listens or may listen, and if *path* is not a socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise OSError(errno.EEXIST, f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        except OSError as error:  # a full backlog, another socket type, no permission
            message = f"{path} may be served by another process: {error.strerror or error}"
            raise OSError(error.errno or errno.EADDRINUSE, message) from error
        else:
            raise OSError(errno.EADDRINUSE, f"another process serves {path}")
