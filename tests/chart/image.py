"""deploy/Dockerfile without a container engine: its steps in a root of their own, made of this machine's.

The stand-in for both base images is an overlay over this machine's root, with this Python where the images have theirs.
What it cannot show is what the real base images hold.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chart import compiler
from tests.tools import ROOT

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMPILER: Final = "/compiler"
DOCKERFILE: Final = ROOT / "deploy/Dockerfile"
PYTHON: Final = Path(getattr(sys, "_base_executable", sys.executable)).resolve()

# Makes the root, then runs what it is given in it. $1: folder for all changes; $2: ro or rw.
_ENTER: Final = """
set -eu
changes=$1 mode=$2; shift 2
mkdir -p "$changes/upper" "$changes/work" "$changes/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$changes/upper,workdir=$changes/work" "$changes/root"
for folder in proc dev sys; do mount --rbind "/$folder" "$changes/root/$folder"; done
mount -t tmpfs tmpfs "$changes/root/tmp"
if [ "$mode" = ro ]; then
  mkdir -p "$changes/root/run/authz" "$changes/root/etc/authz"
  mount -t tmpfs -o mode=2770,gid=65532,size=1m,nosuid,nodev,noexec tmpfs "$changes/root/run/authz"
  mount --bind "$changes/etc-authz" "$changes/root/etc/authz"
  mount -o remount,bind,ro "$changes/root/etc/authz"
  mount -o remount,ro "$changes/root"
fi
exec chroot "$changes/root" "$@"
"""

# The security context of the pod, as the chart renders it.
CONFINED: Final = (
    *("setpriv", "--reuid", "65532", "--regid", "65532", "--groups", "65532"),
    *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
)


@dataclass(slots=True)
class Stage:
    """One stage of the Dockerfile: its base, its environment, and its steps in order."""

    base: str
    environment: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)

    def find(self, instruction: str) -> str:
        """The last argument of an instruction."""
        return [argument for name, argument in self.steps if name == instruction][-1]


def read() -> list[Stage]:
    """The stages of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[Stage] = []
    for line in filter(str.strip, text.splitlines()):
        name, _, argument = line.partition(" ")
        if name == "FROM":
            stages.append(Stage(argument.split()[0]))
        elif name in {"ENV", "ARG"}:  # each argument has a default
            stages[-1].environment |= dict(pair.split("=", 1) for pair in shlex.split(argument))
        else:
            stages[-1].steps.append((name, argument.strip()))
    return stages


def build(changes: Path) -> Path:
    """Run the steps of the build stage; return the folder that stands for its root."""
    (stage, _) = read()
    upper, place = changes / "upper", "/"
    environment = stage.environment | network() | {"PATH": f"{put_compiler(changes)}:{PYTHON.parent}:{PATH}"}
    for name, argument in stage.steps:
        if name == "WORKDIR":
            place = argument
            (upper / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = argument.split()
            for source in sources:
                copy(ROOT / source, upper / place.lstrip("/") / target, into=target.endswith("/"))
        elif name == "RUN":
            command = f"cd {place} && {argument}"
            done = enter(changes, "rw", ["/bin/sh", "-ec", command], environment)
            assert done.returncode == 0, f"RUN {argument}\n{done.stdout}{done.stderr}"
        else:
            raise NotImplementedError(name)
    return upper


def put_compiler(changes: Path) -> Path:
    """Put a C compiler in the root that keeps what it makes in /compiler/kept; return its folder there."""
    name = shlex.split(sysconfig.get_config_var("CC"))[0]
    folder = changes / "upper" / COMPILER.lstrip("/")
    (folder / "kept").mkdir(parents=True)
    shutil.copyfile(compiler.__file__, folder / "compiler.py")
    argv = [str(PYTHON), "-IS", f"{COMPILER}/compiler.py", shutil.which(name) or name, f"{COMPILER}/kept"]
    program = folder / Path(name).name
    program.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return Path(COMPILER)


def network() -> dict[str, str]:
    """What this machine's programs must know to reach a package index."""
    return {
        name: value for name, value in os.environ.items() if re.match("PIP_|SSL_|https?_proxy$", name, re.IGNORECASE)
    }


def copy(source: Path, target: Path, *, into: bool) -> None:
    """COPY: a file into a folder, or a folder's contents to a folder."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        if into:
            target /= source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def enter(
    changes: Path, mode: str, command: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command in the root that these changes make."""
    return subprocess.run(
        entering(changes, mode, command), env=environment, check=False, capture_output=True, text=True
    )


def entering(changes: Path, mode: str, command: list[str]) -> list[str]:
    """The command line that runs a command in that root, in a mount namespace of its own."""
    shell = ["/bin/sh", "-c", _ENTER, "enter", str(changes), mode]
    return ["unshare", "--mount", "--propagation", "private", *shell, *command]


def put_python(changes: Path) -> None:
    """Let /usr/bin/python3 be this Python: the final image has its own there, which everyone may run.

    Below a home that is closed to others, a link to it would work for root only: it is copied.
    """
    python = changes / "upper/usr/bin/python3"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.unlink(missing_ok=True)
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in PYTHON.parents):
        python.symlink_to(PYTHON)
    else:
        shutil.copy2(PYTHON, python)
