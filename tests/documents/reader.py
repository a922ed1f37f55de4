"""A reader of the pages: a folder with the files that a page names, and a shell with the commands that it uses.

What the reader's machine has and this one has not is said here: an issuer, whose keys are written into authz.yaml; the
folder /run/authz and the admin port, which lie in the reader's own folder and on a free port.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from authz.demo.envoy import binary
from tests.documents.pages import Block, blocks
from tests.fakes.ports import free_address
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import A_RSA, changed
from tests.tools import ROOT, TOOLS
from tests.unit.envoy.serving import short_folder

_NAMED: Final = re.compile(r"# ([\w.-]+)\n")
_LOGGED: Final = {
    "decision_id": "5ca1ab1e00c0ffee",
    "reason": "token_expired",
    "detail": "expired 60 s ago, leeway 0 s",
}
_SCOPES: Final = "orders:read orders:write"


@contextmanager
def folder_of(page: Path) -> Iterator[Path]:
    """Make the reader's folder: the page's named files, and where it has none of a name, those of pages before it."""
    with short_folder() as folder:
        readers = (ROOT / "README.md", ROOT / "deploy/README.md", page)
        for block in (block for one in readers for block in blocks("yaml", page=one)):
            if named := _NAMED.match(block.text):
                (folder / named[1]).write_text(block.text, encoding="utf-8")
        shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("*.tgz", "__pycache__"))
        shutil.copy(ROOT / "deploy/envoy/envoy.yaml", folder)
        yield folder


def bring_keys(folder: Path) -> None:
    """Write keys into authz.yaml, and where it may listen here; and a token by these keys into token.txt."""
    file = folder / "authz.yaml"
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    for issuer in config["issuers"].values():
        issuer.pop("jwks_file", None)
        issuer["jwks"] = {"keys": [A_RSA.public()]}
    config["server"] = {"listen": f"unix:{folder}/authz.sock", "drain": "1s"}
    config["admin"] = {"listen": free_address()}
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    first = next(iter(config["issuers"].values()))
    now = int(time.time())
    claims = {"iss": first["issuer"], "aud": first["audiences"], "sub": "alice", "scope": _SCOPES}
    token = A_RSA.sign(changed(claims, {"iat": now, "exp": now + 300}))
    (folder / "token.txt").write_text(f"{token}\n", encoding="ascii")


def run(script: str, folder: Path) -> str:
    """Run *script* in the reader's shell, which ends at the first failure, and return what it printed."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(_commands(folder)), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "160",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - the reader's own
        cwd=folder,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


def logical_lines(block: Block) -> list[str]:
    """The commands of a block; one that goes on behind a backslash is one."""
    return [line for line in re.sub(r"\\\n\s*", "", block.text).splitlines() if line.strip()]


def _commands(folder: Path) -> Path:
    """Write the commands that are not on everybody's PATH; `kubectl logs` shows one line of a decision log."""
    made = folder / "bin"
    made.mkdir(exist_ok=True)
    for name, does in (
        ("authz", f'exec {sys.executable} -m authz "$@"'),
        ("python", f'exec {sys.executable} "$@"'),
        ("helm", f'exec {TOOLS / "helm/helm4"} "$@"'),
        ("envoy", f'exec {binary()} "$@"'),
        ("kubectl", f"[ \"$1\" = logs ] && echo '{json.dumps(_LOGGED)}'"),
    ):
        command = made / name
        command.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        command.chmod(0o755)
    return made
