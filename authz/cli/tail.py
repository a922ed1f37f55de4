"""`authz tail`."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import click

from authz.cli.admin_client import ADMIN, CONFIG_OF_ADMIN, find_admin
from authz.cli.files import EXIT_FAILURE
from authz.cli.terminal import say

_POLL_SECONDS: Final = 0.5  # between two requests
_COLOURS: Final = {"allow": "green", "deny": "red", "would_deny": "yellow"}


@click.command()
@CONFIG_OF_ADMIN
@ADMIN
@click.option("--reason", default="", help="Only decisions with this reason.")
@click.option("--decision", "outcome", type=click.Choice(list(_COLOURS)), help="Only these decisions.")
@click.option("--rule", default="", help="Only those of this rule.")
@click.option("--issuer", default="", help="Only those about tokens of this issuer, by its configured name.")
@click.option("--subject", default="", help="Only those about this subject.")
@click.option("--client", default="", help="Only those about this client address.")
@click.option("--id", "decision_id", default="", help="Only the one with this id, as on an error page.")
@click.option("--kept", is_flag=True, help="Print the decisions that are kept, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def tail(*, file: Path | None, admin: str | None, kept: bool, as_json: bool, **wanted: str | None) -> None:
    """Show decisions of a running sidecar on this host, as they are made.

    It starts with those that the sidecar keeps: the last 750 denials and 250 allows of each process.

    \b
    Exit codes: 0 fine, or interrupted; 1 no sidecar answers; 2 bad arguments
    Examples:
      authz tail --reason token_expired --subject alice
      authz tail --config authz.yaml --decision deny
      authz tail --kept --id 4f1d2a9c0b7e3356
    """  # noqa: D301 - click's mark against rewrapping
    from authz.tooling.follow import describe_decision, follow

    port = find_admin(file, admin)
    query = {name: value for name, value in wanted.items() if value}

    def read(after: float) -> Any:  # noqa: ANN401 - a JSON document
        return port.read("GET", f"/decisions?{urlencode({**query, 'after': repr(after)})}")

    def wait() -> bool:
        if not kept:
            time.sleep(_POLL_SECONDS)
        return not kept

    try:
        for decision in follow(read, wait):
            if isinstance(decision, str):
                click.echo(decision, err=True)
            elif as_json:
                click.echo(json.dumps(decision))
            else:
                instant = datetime.fromtimestamp(decision["at"], UTC).isoformat(timespec="milliseconds")
                say(describe_decision(decision, instant.replace("+00:00", "Z")), _COLOURS.get(decision["decision"]))
    except KeyboardInterrupt:
        sys.exit(0)
    except (OSError, ValueError, KeyError) as error:
        click.echo(f"no decisions from {port.url}: {error} (does it run, with admin.console.enabled?)", err=True)
        sys.exit(EXIT_FAILURE)
