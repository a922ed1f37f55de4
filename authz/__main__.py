"""The program `authz`, and `python -m authz`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line.

    `authz serve` handles signals before it imports anything else: on a busy node the imports take seconds.
    """
    guard = None
    if sys.argv[1:2] == ["serve"]:
        from authz.runtime.signals import StartGuard

        guard = StartGuard()
    from authz.cli import main as run

    run(obj=guard)


if __name__ == "__main__":
    main()
