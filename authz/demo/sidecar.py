"""The sidecar as a child process: `authz serve` with a configuration file, as in production."""

from __future__ import annotations

import socket
import sys
import time
from http.client import HTTPException
from pathlib import Path

from authz.demo.client import send
from authz.demo.process import Pause, Process

_FIX = "run `authz check-config` on that file; it reports every error"


class Sidecar:
    """One sidecar, its configuration and its log in `folder`; `admin` is the host:port of its admin listener."""

    def __init__(self, config: str, *, admin: str, folder: Path) -> None:
        self.config_file = folder / "authz.yaml"
        self.config_file.write_text(config, encoding="utf-8")
        self.admin_url = f"http://{admin}"
        argv = [sys.executable, "-m", "authz", "serve", "--config", str(self.config_file)]
        self.process = Process("the sidecar", argv, log=folder / "authz.log", fix=_FIX)

    def start(self, *, pause: Pause = time.sleep) -> None:
        """Start the sidecar and wait until it has its keys and answers. Raises PartFailed."""
        self.process.start()
        self.process.wait_until(self._ready, pause=pause)

    def stop(self) -> None:
        """Stop the sidecar."""
        self.process.stop()

    def _ready(self) -> bool:
        try:
            return send(f"{self.admin_url}/readyz").status == 200
        except (OSError, HTTPException):
            return False


def free_address() -> str:
    """Return a loopback host:port on which nothing listens now. Another program may take it before we do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
