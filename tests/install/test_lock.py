"""Proves that what a lock file says is installed on any day: whatever an index offers by then, by old pips and new.

The Makefile itself runs, in a project of three generated wheels. pip takes them from a folder, and no network is there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.install.wheels import NAME, pin, write_index, write_wheel
from tests.tools import ROOT, TOOLS, path

# pip 23.0 knows no Python after 3.11, with which it came.
OLDEST: Final = pytest.mark.skipif(sys.version_info >= (3, 12), reason="pip 23.0 ends with Python 3.11")
FLAGS: Final = {"--no-deps", "--require-hashes", "--only-binary=:all:"}
ELSEWHERE: Final = {  # what a lock file is installed to beside .venv
    ".tools/xds-protos": "tests/unit/envoy/official.lock",
    ".tools/rotel": "tests/integration/collector.lock",
}


# In place of this Python: what `python -m venv .venv` makes is copied, in a twentieth of the time. Its scripts begin
# with its path.
PYTHON: Final = """#!/bin/sh
if [ "$*" != "-m venv .venv" ]; then exec "{python}" "$@"; fi
cp -a "{made}" .venv && grep -lrI "{made}" .venv | xargs sed -i "s|{made}|$PWD/.venv|g"
"""
OWN_PYTHON: Final[str] = sys._base_executable  # type: ignore[attr-defined]  # of CPython, not in typeshed


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has made its environment already."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([OWN_PYTHON, "-m", "venv", folder / "made"], check=True)
    program = folder / "python"
    program.write_text(PYTHON.format(python=OWN_PYTHON, made=folder / "made"), encoding="utf-8")
    program.chmod(0o755)
    return str(program)


class Project:
    """A folder with our Makefile, and lock files of the wheels that an index offered some days ago."""

    def __init__(self, folder: Path, pip: str | None, python: str) -> None:
        """*pip* is the name of a folder of .tools/pips, or None for the pip that *python* comes with."""
        self._folder = folder
        self._pip = pip
        self._python = python
        self.index = folder / "index"
        self.lock = write_index(self.index)
        (folder / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"), encoding="utf-8")
        self.write("pyproject.toml", '[build-system]\nrequires = ["backend"]\nbuild-backend = "backend"\n')
        for lock in ("requirements.lock", *ELSEWHERE.values()):
            self.write(lock, self.lock)

    def write(self, file: str, text: str) -> None:
        """Write a file of the project."""
        target = self._folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def make(self, *targets: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make, with the index as the only place where pip can find anything."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
        own |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "PIP_CONFIG_FILE": os.devnull}
        if self._pip is not None:
            own["PYTHONPATH"] = str(TOOLS / "pips" / self._pip)  # goes before what .venv has
        return subprocess.run(
            [path("make"), f"PYTHON={self._python}", *targets],
            cwd=self._folder,
            env=own | environment,
            check=False,
            capture_output=True,
            text=True,
        )

    def installed(self, folder: str) -> set[str]:
        """Name what is installed in *folder*, without what a new environment has."""
        found = {entry.name.removesuffix(".dist-info") for entry in (self._folder / folder).rglob("*.dist-info")}
        return {name for name in found if not name.startswith(("pip-", "setuptools-"))}

    def pip_version(self) -> str:
        """Say which pip make runs."""
        return self.make("--eval", "version: ; @$(BIN)/pip --version", "version").stdout.split()[1]


@pytest.fixture
def project(tmp_path: Path, python: str) -> Project:
    """A project whose Makefile runs the pip that this Python comes with."""
    return Project(tmp_path, None, python)


@pytest.mark.parametrize("pip", [None, pytest.param("oldest", marks=OLDEST), "newest"])
@pytest.mark.needs("pips", "make")
def test_nothing_but_the_lock_decides(pip: str | None, tmp_path: Path, python: str) -> None:
    """The lock decides, though an index offers newer releases of all, one of them required with an extra.

    Nor does it matter what the user's environment configures for pip: neither to what is installed, nor to where.
    """
    project = Project(tmp_path, pip, python if pip else OWN_PYTHON)
    (tmp_path / "constraint.txt").write_text(f"{NAME}>1.0\n", encoding="utf-8")
    settings = {
        "PIP_CONSTRAINT": str(tmp_path / "constraint.txt"),
        "PIP_PRE": "1",
        "PIP_TARGET": str(tmp_path / "target"),
        "PIP_USER": "1",
        "PIP_NO_BINARY": ":all:",
        "PIP_DRY_RUN": "1",
    }
    done = project.make(".venv/locked", *ELSEWHERE, **settings)
    assert done.returncode == 0, done.stderr
    for folder in (".venv", *ELSEWHERE):
        assert project.installed(folder) == {"tomlish-1.0", f"{NAME}-1.0", "plugin-1.0"}
    pins = {name: (ROOT / f"tests/install/{name}.lock").read_text(encoding="utf-8") for name in ("oldest", "newest")}
    assert "\npip==23.0 " in pins["oldest"]
    assert {name for name, lock in pins.items() if f"\npip=={project.pip_version()} " in lock} == {pip} - {None}


@pytest.mark.needs("make")
def test_other_bytes_are_refused(project: Project) -> None:
    """A wheel that is not the one that was locked is not installed, though its name and version are right."""
    write_wheel(project.index, NAME, "1.0", "Summary: not what was locked")
    done = project.make(".venv/locked")
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert project.installed(".venv") == set()


@pytest.mark.needs("make")
def test_nothing_is_built(project: Project) -> None:
    """A source distribution is refused, though its hash is in the lock: what builds it would be of the day."""
    sdist = project.index / "sourceful-1.0.tar.gz"
    sdist.write_bytes(b"whatever: it is not opened")
    project.write("requirements.lock", project.lock + pin(sdist))
    done = project.make(".venv/locked")
    assert done.returncode != 0
    assert "No matching distribution found for sourceful==1.0" in done.stderr


@pytest.mark.needs("make")
def test_an_incomplete_lock_is_said(project: Project) -> None:
    """A lock file that lacks a dependency is no environment to work in: the error names it, and what helps."""
    write_backend(project)
    lines = project.lock.splitlines(keepends=True)
    backend = pin(project.index / "backend-1.0-py3-none-any.whl")
    project.write("requirements.lock", "".join(line for line in lines if NAME not in line) + backend)
    done = project.make(".venv/ready")
    assert done.returncode != 0
    assert f"plugin 1.0 requires {NAME}, which is not installed." in done.stderr
    assert "run make lock" in done.stderr
    project.write("requirements.lock", project.lock + backend)
    done = project.make(".venv/ready")
    assert done.returncode == 0, done.stderr


def write_backend(project: Project) -> None:
    """Offer what builds the project itself, in place of hatchling."""
    code = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "project-1.0-py3-none-any.whl"
    info = "project-1.0.dist-info"
    with zipfile.ZipFile(folder + "/" + name, "w") as archive:
        archive.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\n")
        archive.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "/RECORD", "")
    return name
"""
    write_wheel(project.index, "backend", "1.0", code=code)


def test_every_locked_installation_has_the_flags() -> None:
    """Where the Makefile's `INSTALL` does not serve, the same three flags stand; and no other file installs a lock."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (flags,) = re.findall(r"^INSTALL := \$\(BIN\)/pip install --quiet (.*) --requirement$", makefile, re.MULTILINE)
    assert set(flags.split()) == FLAGS
    places = [ROOT / "deploy/Dockerfile", *(ROOT / ".github/workflows").iterdir(), ROOT / ".ci/run", ROOT / "Makefile"]
    found = [
        (place.name, line)
        for place in places
        for line in place.read_text(encoding="utf-8").splitlines()
        if "pip install" in line and "--requirement" in line and not line.startswith("INSTALL :=")
    ]
    assert sorted(name for name, _ in found) == ["Dockerfile", "Dockerfile", "Makefile", "Makefile", "release.yml"]
    for _, line in found:
        assert set(line.split()) >= FLAGS
