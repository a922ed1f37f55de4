"""`authz demo`."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--once", is_flag=True, help="Send the requests, print a table, exit 0 only if all went as they should.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print JSON in place of the table.")
def demo(*, once: bool, as_json: bool) -> None:
    """Run an identity provider, an upstream, a real Envoy and the sidecar, and show how they work together."""
    from authz.demo.run import run

    sys.exit(run(once=once, as_json=as_json))
