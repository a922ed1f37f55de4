"""`authz check-config`."""

from __future__ import annotations

from pathlib import Path

import click

from authz.cli.files import FILE, read_or_exit


@click.command("check-config")
@click.argument("file", type=FILE)
def check_config(file: Path) -> None:
    """Report everything that is wrong with FILE, and what its author should know.

    \b
    Exit codes: 0 fine, perhaps with warnings; 2 errors
    Example:
      authz check-config authz.yaml
    """  # noqa: D301 - click's mark for lines that stay as they are
    from authz.config.warnings import warnings

    document, config = read_or_exit(file)
    for warning in map(document.locate, warnings(config)):
        click.echo(f"{file}:{warning.line}: warning: {warning}", err=True)
    click.echo(f"{file}: ok, issuers: {len(config.issuers)}, rules: {len(config.rules)}")
