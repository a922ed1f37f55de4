"""The command line: each command is one verb, in a module of its own, and imports what it alone needs when it runs."""

from __future__ import annotations

import click

from authz import __version__
from authz.cli.check_config import check_config
from authz.cli.demo import demo
from authz.cli.explain import explain
from authz.cli.health import health
from authz.cli.keys import keys
from authz.cli.schema import schema
from authz.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="authz", message="%(prog)s %(version)s")
def main() -> None:
    """Judge the bearer token of every request that Envoy asks about."""


for command in (serve, check_config, explain, schema, health, demo, keys):
    main.add_command(command)
