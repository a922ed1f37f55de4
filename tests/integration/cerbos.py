"""Cerbos as a process on loopback, from npm: a policy decision point that speaks AuthZEN."""

from __future__ import annotations

import http.client
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.fakes.pdp import EVALUATION
from tests.fakes.ports import free_address
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.tools import path

TOOL: Final = "@cerbos/cerbos-linux-x64"
_CONFIG: Final = """server:
  httpListenAddr: "{http}"
  grpcListenAddr: "{grpc}"
storage: {{driver: disk, disk: {{directory: "{policies}", watchForChanges: false}}}}
telemetry: {{disabled: true}}
"""
# The rules of AuthZEN's certification scenario: the role is the type of the subject.
_POLICY: Final = """apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: record
  version: default
  rules:
    - {actions: ["read"], effect: EFFECT_ALLOW, roles: ["user"]}
    - actions: ["write"]
      effect: EFFECT_ALLOW
      roles: ["user"]
      condition: {match: {expr: 'P.id == "alice" && !(has(R.attr.status) && R.attr.status == "archived")'}}
    - actions: ["write"]
      effect: EFFECT_ALLOW
      roles: ["user"]
      condition:
        match:
          all:
            of:
              - expr: has(P.attr.role) && P.attr.role == "admin"
              - expr: has(R.attr.status) && R.attr.status == "archived"
"""


class Cerbos:
    """The process; a context manager. After `stop` and `start` it serves at the same URL."""

    def __init__(self, folder: Path, *, policy: str = _POLICY) -> None:
        self._folder: Final = folder
        self._address: Final = free_address()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "policies").mkdir()
        (folder / "policies/record.yaml").write_text(policy)
        config = _CONFIG.format(http=self._address, grpc=free_address(), policies=folder / "policies")
        (folder / "cerbos.yaml").write_text(config)

    @property
    def url(self) -> str:
        """Its access evaluation endpoint."""
        return f"http://{self._address}{EVALUATION}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Serve."""
        command = [f"{path(TOOL)}/cerbos-linux-x64", "server", f"--config={self._folder / 'cerbos.yaml'}"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._is_ready)

    def stop(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(HANG_SECONDS)
            self._process = None

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self._address, timeout=HANG_SECONDS)
        try:
            connection.request("GET", "/_cerbos/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
