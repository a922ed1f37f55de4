"""Wheels of a few bytes, a lock file for them, and a folder that offers newer ones, as an index would."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Final

NAME: Final = "coverish"  # as coverage is: required by others with an extra


def write_wheel(folder: Path, name: str, version: str, *metadata: str, code: str = "") -> Path:
    """Write a wheel of one module with *code*; *metadata* are further lines such as `Requires-Dist: x`."""
    info = f"{name}-{version}.dist-info"
    lines = ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata)
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": "".join(f"{line}\n" for line in lines),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return wheel


def write_index(folder: Path) -> str:
    """Fill *folder* with two releases of each wheel; return the lock file of the older ones."""
    folder.mkdir()
    wheels = []
    for version in ("1.0", "1.1"):
        wheels += [
            write_wheel(folder, "tomlish", version),
            write_wheel(folder, NAME, version, "Provides-Extra: toml", "Requires-Dist: tomlish; extra == 'toml'"),
            write_wheel(folder, "plugin", version, f"Requires-Dist: {NAME}[toml]>=1.0"),
        ]
    return "".join(map(pin, wheels[:3]))


def pin(file: Path) -> str:
    """Return the line of a lock file that pins a wheel, or a source distribution."""
    name, version, *_ = file.name.removesuffix(".tar.gz").split("-")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"
