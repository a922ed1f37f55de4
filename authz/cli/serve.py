"""`authz serve`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

import click

from authz.cli.files import FILE, load_or_exit
from authz.config.warnings import warnings

_CANNOT_START: Final = 3  # exit code


@click.command()
@click.option("--config", "file", type=FILE, required=True, help="The configuration file.")
def serve(file: Path) -> None:
    r"""Serve Envoy's checks until SIGTERM; a second SIGTERM ends at once. SIGHUP, or a new file, reloads.

    \b
    Exit codes: 0 drained; 2 errors in the configuration; 3 an address cannot be bound
    Example:
      authz serve --config authz.yaml
    """
    from authz.app import App
    from authz.telemetry.logs import set_up_logging

    config = load_or_exit(file)
    set_up_logging(level=config.telemetry.log_level, log_format=config.telemetry.log_format)
    for warning in warnings(config):
        click.echo(f"{file}: warning: {warning}", err=True)
    app = App(file, config)

    def stop(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)  # the second signal is not caught any more
        app.stop()

    signal.signal(signal.SIGHUP, lambda _signum, _frame: app.reload())
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        app.run()
    except OSError as error:
        click.echo(f"authz cannot start: {error}", err=True)
        sys.exit(_CANNOT_START)
