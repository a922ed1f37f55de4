"""The command line: each command is one module, which imports what only this command needs when it runs."""

from __future__ import annotations

import click

from authz import __version__
from authz.cli.check_config import check_config
from authz.cli.completion import completion
from authz.cli.demo import demo
from authz.cli.drain_envoy import drain_envoy
from authz.cli.envoy_config import envoy_config
from authz.cli.explain import explain
from authz.cli.health import health
from authz.cli.keys import keys
from authz.cli.revoke import revoke
from authz.cli.schema import schema
from authz.cli.serve import serve
from authz.cli.signing import signing
from authz.cli.tail import tail


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="authz", message="%(prog)s %(version)s")
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


for command in (
    serve,
    check_config,
    explain,
    envoy_config,
    keys,
    revoke,
    signing,
    tail,
    health,
    drain_envoy,
    schema,
    demo,
    completion,
):
    main.add_command(command)
