"""A C compiler that keeps what it made: `python compiler.py COMPILER FOLDER argument ...`.

An object is made of the arguments, which name files relative to the working directory, and of the C files and headers
there. Whether the compiler also writes something else into it, such as the directory or the time, every object shows
alike. So an object of a long source that was made before of the same is taken from FOLDER; a short source is
always compiled, and its path is added to FOLDER/compiled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

SHORT_BYTES: Final = 20_000  # of some 70 sources a quarter, and of the time to compile all a twentieth


def main() -> None:
    """Run the compiler, or take what it made."""
    compiler, name, *arguments = sys.argv[1:]
    folder, command = Path(name), [compiler, *arguments]
    if "-c" not in arguments:
        os.execv(compiler, command)  # noqa: S606 - the compiler links
    source, target = (Path(arguments[arguments.index(option) + 1]) for option in ("-c", "-o"))
    kept = folder / identify(arguments, source)
    if source.stat().st_size >= SHORT_BYTES and kept.exists():
        shutil.copyfile(kept, target)
        return
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        shutil.copyfile(target, kept)
        with (folder / "compiled").open("a", encoding="utf-8") as log:
            log.write(f"{source}\n")
    sys.exit(status)


def identify(arguments: list[str], source: Path) -> str:
    """Return a name for all that the object is made of, as far as it can change between two builds in one root."""
    digest = hashlib.sha256(repr(arguments).encode())
    for file in (source, *sorted(Path().rglob("*.h"))):
        digest.update(repr((str(file), file.stat().st_size)).encode() + file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
