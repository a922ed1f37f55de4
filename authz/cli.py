"""The command line: each command is one verb over the parts below."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

import click

from authz import __version__
from authz.config.load import load
from authz.config.model import Config
from authz.config.problems import ConfigError
from authz.config.warnings import warnings

_BAD_CONFIG: Final = 2
_CANNOT_START: Final = 3
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="authz", message="%(prog)s %(version)s")
def main() -> None:
    """Judge the bearer token of every request that Envoy asks about."""


@main.command()
@click.option("--config", "file", type=_FILE, required=True, help="The configuration file.")
def serve(file: Path) -> None:
    r"""Serve Envoy's checks until SIGTERM.

    \b
    Example:
      authz serve --config authz.yaml
    """
    from authz.app import App
    from authz.telemetry.logs import set_up_logging

    config = _load(file)
    set_up_logging(level=config.telemetry.log_level, log_format=config.telemetry.log_format)
    app = App(config)

    def stop(signum: int, _frame: FrameType | None) -> None:
        # A second signal is not caught any more: it ends the process at once.
        signal.signal(signum, signal.SIG_DFL)
        app.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for warning in warnings(config):
        click.echo(f"warning: {warning}", err=True)
    try:
        app.run()
    except OSError as error:
        click.echo(f"authz cannot start: {error}", err=True)
        sys.exit(_CANNOT_START)


@main.command("check-config")
@click.argument("file", type=_FILE)
def check_config(file: Path) -> None:
    r"""Report everything that is wrong with FILE, or that its author should know.

    \b
    Exit codes: 0 fine, perhaps with warnings · 2 errors
    Example:
      authz check-config authz.yaml
    """
    config = _load(file)
    for warning in warnings(config):
        click.echo(f"{file}: warning: {warning}", err=True)
    click.echo(f"{file}: ok, {len(config.issuers)} issuers, {len(config.rules)} rules")


@main.command()
def schema() -> None:
    """Print the JSON Schema (draft-07) of the configuration file."""
    from authz.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.option(
    "--once", is_flag=True, help="Send the requests, print a table, and exit 0 only if all went as they should."
)
@click.option("--json", "as_json", is_flag=True, help="With --once: print JSON in place of the table.")
def demo(*, once: bool, as_json: bool) -> None:
    """Run an identity provider, an upstream, a real Envoy and the sidecar, and show how they work together."""
    from authz.demo.run import run

    sys.exit(run(once=once, as_json=as_json))


def _load(file: Path) -> Config:
    try:
        return load(file)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(_BAD_CONFIG)
