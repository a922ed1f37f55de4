"""The program `authz`, and `python -m authz`."""

from __future__ import annotations

import gc
import sys
from typing import Final

_BESIDE_CHECKS: Final = 10  # niceness: a tenth of a core at least, even if checks take all they can get


def main() -> None:
    """Run the command line.

    `authz serve` handles signals before it imports anything else: on a busy node the imports take seconds.
    """
    guard = None
    if sys.argv[1:2] == ["serve"]:
        from authz.runtime.signals import StartGuard

        guard = StartGuard()
        gc.disable()  # until it serves: what is imported stays, and to look at it takes a tenth of the time
        from authz.config import plain

        plain.choose(plain.Form.PLAIN)
    elif sys.argv[1:2] == ["_check"]:  # a child of `serve`, for a reload
        gc.disable()  # it ends before there is much garbage
        from authz.config import plain

        plain.choose(plain.Form.CHECKED)
        from authz.runtime.checking import main as check

        check(sys.argv[2], niceness=_BESIDE_CHECKS)
    elif sys.argv[1:2] == ["_fork"]:  # a child of `serve` with several workers
        from authz.config import plain

        gc.disable()
        plain.choose(plain.Form.PLAIN)
        from authz.cli.serve import fork_workers

        fork_workers()
        return
    from authz.cli import main as run

    run(obj=guard)


if __name__ == "__main__":
    main()
