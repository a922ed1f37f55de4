"""`authz schema`."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema (draft-07) of the configuration file.

    \b
    Exit codes: 0 always
    Example:
      authz schema > authz.schema.json
    For editors, in the first line of the file:
      # yaml-language-server: $schema=authz.schema.json
    """  # noqa: D301 - click's mark against rewrapping
    from authz.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
