"""The command line: each command is one module, which imports what only this command needs when it runs."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from authz import __version__
from authz.core.implementation import IMPLEMENTATION

_COMMANDS: Final = (
    "check-config",
    "completion",
    "demo",
    "drain-envoy",
    "envoy-config",
    "explain",
    "health",
    "keys",
    "revoke",
    "schema",
    "serve",
    "signing",
    "tail",
)


class _Commands(click.Group):
    """Imports a command when it is run, or listed: `serve` and `health` must start fast, and stay small."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"authz.cli.{name}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(f"{__version__} ({IMPLEMENTATION})", prog_name="authz", message="%(prog)s %(version)s")
def main() -> None:
    """Authorize the requests of Envoy's clients by their bearer tokens.

    \b
    Exit codes of every command:
      0  success
      1  it ran, and the answer is no: denied, not ready, problems found
      2  bad arguments or unusable files (health: not reached)
      3  serve: cannot start
    Start with:
      authz demo
      authz check-config authz.yaml
      authz explain --config authz.yaml --path /orders --token-file t.txt
    """  # noqa: D301 - click's mark against rewrapping
