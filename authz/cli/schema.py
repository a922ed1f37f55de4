"""`authz schema`."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema (draft-07) of the configuration file."""
    from authz.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
