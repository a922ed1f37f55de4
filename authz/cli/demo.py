"""`authz demo`."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--once", is_flag=True, help="Send the requests, print a table, exit 0 only if all passed.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print JSON instead of the table.")
def demo(*, once: bool, as_json: bool) -> None:
    """Run an identity provider, an upstream, a real Envoy and the sidecar, and show how they work together.

    \b
    Exit codes: 0 stopped by Ctrl-C, or all requests passed
                1 a part did not start, or a request did not pass
                2 bad arguments
    Examples:
      authz demo
      authz demo --once --json
    """  # noqa: D301 - click's mark against rewrapping
    if as_json and not once:
        raise click.UsageError("--json requires --once")
    from authz.demo.run import run

    sys.exit(run(once=once, as_json=as_json))
