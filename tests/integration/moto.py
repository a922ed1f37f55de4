"""The server of moto, which has the API of AWS KMS."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from authz.demo.process import Process
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.tools import path


class Moto:
    """One server, and a client to make keys with."""

    def __init__(self, folder: Path) -> None:
        self.address = free_address()
        self.url = f"http://{self.address}"
        host, _, port = self.address.rpartition(":")
        argv = [f"{path('moto')}/bin/moto_server", "--host", host, "--port", port]
        self.process = Process("moto", argv, log=folder / "moto.log", fix="read its log")

    def __enter__(self) -> Self:
        self.process.start()
        wait_until(self._answers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.stop()

    def create(self, spec: str, *, alias: str) -> None:
        """Create a key that signs, under an alias."""
        client = self._client()
        key = client.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        client.create_alias(AliasName=alias, TargetKeyId=key)
        client.close()

    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its classes
        import boto3  # noqa: PLC0415 - slow to import

        own: Mapping[str, str] = {"aws_access_key_id": "a", "aws_secret_access_key": "s"}
        return boto3.session.Session(region_name="eu-central-1", **own).client("kms", endpoint_url=self.url)

    def _answers(self) -> bool:
        assert self.process.running, f"{self.process.log} says why"
        host, _, port = self.address.rpartition(":")
        with closing(socket.socket()) as probe:
            return probe.connect_ex((host, int(port))) == 0
