"""Keep the corpus small: `python -m tests.fuzz.minimise TARGET [FOLDER ...]` takes from the folders only what is new.

An input is worth keeping if it takes a step from one line of the core to another that no shorter input takes. The seeds
that a test names stay.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.mutate import CORPUS, seeds
from tests.fuzz.targets import GOOD, TARGETS

Step = tuple[str, int, int]


def steps(target: Callable[[bytes], None], data: bytes) -> set[Step]:
    """Return the steps from line to line that *data* makes the core take."""
    taken: set[Step] = set()
    before: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401 - as sys.settrace wants it
        file = frame.f_code.co_filename
        if "/authz/core/" not in file and not file.endswith("/codec.py"):
            return None
        if event == "line":
            taken.add((file, before.get(frame, 0), frame.f_lineno))
            before[frame] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return taken


def main() -> None:
    """Rewrite the corpus of one target."""
    name, *folders = sys.argv[1:]
    target, known = TARGETS[name], seeds(name)
    found = [file.read_bytes() for folder in folders for file in Path(folder).iterdir()]
    covered: set[Step] = set()
    kept: list[bytes] = []
    for data in sorted({*known, *found}, key=lambda data: (data != GOOD.encode(), len(data), data)):
        taken = steps(target, data)
        if taken - covered:
            covered |= taken
            kept.append(data)
    for file in (CORPUS / name).iterdir():
        file.unlink()
    for data in kept:
        (CORPUS / name / sha256(data).hexdigest()[:12]).write_bytes(data)
    inputs, octets = len(known) + len(found), sum(map(len, kept))
    print(f"{name}: {len(kept)} of {inputs} inputs, {octets} octets, {len(covered)} steps")


if __name__ == "__main__":
    main()
