"""Fuzz without end: `python -m tests.fuzz TARGET [libFuzzer's own options]`, or without a target each for a minute.

With atheris (PyPI) coverage guides it, and what is new lands in the folder given first (by default a temporary one);
`python -m tests.fuzz.minimise TARGET FOLDER` brings the best of it into the corpus. Without atheris the corpus is
changed blindly. A crash is a failed law: its input is shown.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from random import Random

from tests.fuzz.mutate import CORPUS, mutants, seeds

NAMES = sorted(folder.name for folder in CORPUS.iterdir())


def fuzz(name: str, options: list[str]) -> None:
    """Fuzz one target."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        atheris = None
    instrumented = atheris.instrument_imports(include=["authz.core", "authz.envoy"]) if atheris else nullcontext()
    with instrumented:
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    if atheris is not None:
        new = tempfile.mkdtemp(prefix=f"fuzz-{name}-")
        flags = [option for option in options if option.startswith("-")]
        folders = [option for option in options if not option.startswith("-")] or [new]
        atheris.Setup([name, f"-artifact_prefix={new}/", *flags, *folders, str(CORPUS / name)], target)
        atheris.Fuzz()
        return
    limits = [int(option.removeprefix("-runs=")) for option in options if option.startswith("-runs=")]
    for data in itertools.islice(mutants(seeds(name), Random()), limits[0] if limits else None):  # noqa: S311 - no secret
        try:
            target(data)
        except BaseException:
            print(f"{name} failed for {data!r}")
            raise


def main() -> None:
    """Fuzz the target that is named, or each of them in turn, for ever."""
    if len(sys.argv) > 1:
        fuzz(sys.argv[1], sys.argv[2:])
        return
    for name in itertools.cycle(NAMES):
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", "tests.fuzz", name, "-max_total_time=60", "-runs=200000"], check=True)


if __name__ == "__main__":
    main()
