"""Run every part, or those that are named: `python -m tests.endurance [PART ...] [--long] [--json FILE]`.

The exit code is 1 where a promise was broken.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.endurance import attacks, overload, reloads, restarts, rotation, soak
from tests.endurance.report import Result, describe_machine, note_strangers
from tests.tools import find

PARTS: Final[dict[str, Callable[[bool], Result]]] = {
    "reloads": lambda long: reloads.run(reloads.Scale(reloads=1_000, unsignalled=50 if long else 200)),
    "restarts": lambda long: restarts.run(restarts.Scale(two=100, one=20) if long else restarts.Scale(two=24, one=6)),
    "soak": lambda long: soak.run(
        soak.Scale(seconds=3_600, rotate_every=60, reload_every=30) if long else soak.Scale(seconds=180)
    ),
    "rotation": lambda long: rotation.run(rotation.Scale(rotations=4 if long else 1)),
    "attacks": lambda long: attacks.run(attacks.Scale(seconds=30 if long else 5)),
    "overload": lambda long: overload.run(overload.Scale(seconds=15 if long else 4)),
}


def main() -> int:
    """Run the parts; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--long", action="store_true", help="an hour of soak, a hundred restarts, longer runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found to this file, too")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    parts = options.parts or list(PARTS)
    if "overload" in parts and find("h2load") is None:
        parser.error("overload needs h2load (Debian: nghttp2-client); name the other parts to do without")
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    results = []
    for name in parts:
        began = time.monotonic()
        with note_strangers() as strangers:
            result = PARTS[name](options.long)
        result.notes += [*strangers, f"took {time.monotonic() - began:.0f} s"]
        result.show()
        results.append(result)
    if options.json:
        document = {"machine": machine, "long": options.long, "parts": [result.document() for result in results]}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    broken = [result.part for result in results if result.broken]
    print(f"\nBROKEN: {'; '.join(broken)}" if broken else "\nevery promise held")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
