"""Tokens of SoftHSM 2, each test has its own: a folder of tokens, and a copy of the library, which shares no state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authz.signing.hsm import HsmKey
from tests.tools import path

PIN: Final = "4711-aufgemacht"  # greppable
_HOLD: Final = """
import fcntl, sys
files = [open(name, "r+b") for name in sys.argv[1:]]
for file in files:
    fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
_LIBRARY: Final = Path("/usr/lib/softhsm/libsofthsm2.so")


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A device with tokens. Its keys are imported, so that a test knows them."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> SoftHsm:
        """Make an empty device; libraries that are initialized from now on use it."""
        (folder / "tokens").mkdir()
        config = folder / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(config)
        shutil.copy(_LIBRARY, folder / "module.so")
        (folder / "pin").write_text(f"{PIN}\n")
        return cls(folder)

    def add_token(self, label: str = "authz", *, pin: str = PIN) -> None:
        """Initialize a token."""
        self._run("--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "87654321")

    def add_key(
        self, key: PrivateKeyTypes, label: str = "signing", *, identity: str = "01", token: str = "authz"
    ) -> None:
        """Import a private key and its public one."""
        file = self.folder / "import.pem"
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._run("--import", str(file), "--token", token, "--label", label, "--id", identity, "--pin", PIN)
        file.unlink()

    def remove(self) -> None:
        """Pull out all tokens."""
        (self.folder / "tokens").rename(self.folder / "away")
        (self.folder / "tokens").mkdir()

    def put_back(self) -> None:
        """Insert what was removed."""
        (self.folder / "tokens").rmdir()
        (self.folder / "away").rename(self.folder / "tokens")

    def destroy(self) -> None:
        """Lose all tokens."""
        shutil.rmtree(self.folder / "tokens")
        (self.folder / "tokens").mkdir()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Have every use of a key hang in the library: another process holds the locks of all files of the tokens."""
        files = [str(file) for file in (self.folder / "tokens").rglob("*") if file.is_file()]
        with subprocess.Popen(
            [sys.executable, "-c", _HOLD, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            yield
            holder.communicate()  # it ends at the end of its input

    def where(self, key: str = "signing", *, algorithm: str | None = None, key_id: bytes | None = None) -> HsmKey:
        """Say where a key is."""
        return HsmKey(
            module=str(self.folder / "module.so"),
            token="authz",
            pin_file=str(self.folder / "pin"),
            key=key,
            key_id=key_id,
            algorithm=algorithm,
            timeout=60.0,
        )

    def _run(self, *arguments: str) -> None:
        environment = os.environ | {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}
        command = [path("softhsm2-util"), *arguments]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
