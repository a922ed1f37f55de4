"""`authz signing`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from authz.cli.admin_client import ADMIN, CONFIG_OF_ADMIN, find_admin
from authz.cli.files import EXIT_FAILURE, EXIT_USAGE

if TYPE_CHECKING:
    from authz.signing.state import SigningState

_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Change this state file, which no sidecar writes, in place of asking a running one.",
)
_ALGORITHM = click.option("--algorithm", default="ES256", show_default=True, help="Of a new key in --state.")
_AHEAD = click.option("--ahead", default="15m", show_default=True, help="How long a key in --state waits.")


@click.group()
def signing() -> None:
    """Rotate the keys that sign tokens for the upstream.

    \b
    Exit codes: 0 done; 1 not done; 2 bad arguments or unusable files
    Examples:
      authz signing rotate
      authz signing rotate --state keys.json --ahead 30m
      authz signing withdraw 1b94c --state keys.json
    """  # noqa: D301 - click's mark against rewrapping


@signing.command()
@CONFIG_OF_ADMIN
@ADMIN
@_STATE
@_ALGORITHM
@_AHEAD
def rotate(*, file: Path | None, admin: str | None, state: Path | None, algorithm: str, ahead: str) -> None:
    """Publish a new key, which signs when readers know it.

    A running sidecar does the rest. With --state, run it again after --ahead: then the new key signs.

    \b
    Exit codes: 0 done; 1 not done; 2 bad arguments or unusable files
    Examples:
      authz signing rotate
      authz signing rotate --config authz.yaml
      authz signing rotate --state keys.json
    """  # noqa: D301 - click's mark against rewrapping
    if state is None:
        _post(file, admin, "/signing/rotate")
        return
    from authz.signing.offline import rotate_state

    seconds = _seconds(ahead)
    _change(state, lambda current: rotate_state(current, algorithm=algorithm, ahead=seconds, now=time.time()))


@signing.command()
@click.argument("kid")
@CONFIG_OF_ADMIN
@ADMIN
@_STATE
@_ALGORITHM
@_AHEAD
def withdraw(kid: str, *, file: Path | None, admin: str | None, state: Path | None, algorithm: str, ahead: str) -> None:
    """Remove a key at once, because others may have it; another one signs.

    Readers that cache the key set accept the key for as long as they do.

    \b
    Exit codes: 0 done; 1 not done; 2 bad arguments or unusable files
    Examples:
      authz signing withdraw 1b94c
      authz signing withdraw 1b94c --state keys.json
    """  # noqa: D301 - click's mark against rewrapping
    if state is None:
        _post(file, admin, f"/signing/withdraw?{urlencode({'kid': kid})}")
        return
    from authz.signing.offline import withdraw_key

    seconds = _seconds(ahead)
    try:
        _change(state, lambda current: withdraw_key(current, kid, algorithm=algorithm, ahead=seconds, now=time.time()))
    except KeyError:
        click.echo(f"{state}: no key {kid}", err=True)
        sys.exit(EXIT_FAILURE)


def _post(file: Path | None, admin: str | None, target: str) -> None:
    """Ask a running sidecar, print what it says, and exit if it says no."""
    port = find_admin(file, admin)
    try:
        status, body = port.request("POST", target)
    except OSError as error:
        click.echo(
            f"no answer from {port.url}: {error} (is --admin the sidecar's admin.listen, on this host?)", err=True
        )
        sys.exit(EXIT_FAILURE)
    done = status in {HTTPStatus.OK, HTTPStatus.ACCEPTED}
    click.echo(body.decode("utf-8", "replace").strip(), err=not done)
    if not done:
        sys.exit(EXIT_FAILURE)


def _change(path: Path, change: Callable[[SigningState], SigningState]) -> None:
    """Change a state file, and print its keys; or print the error and exit."""
    from authz.signing.state import FileStore, StateError

    try:
        state = FileStore(path).change(change)
    except StateError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_USAGE)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--algorithm") from None
    for key in state.ring.keys:
        click.echo(f"{key.phase.value:10} {key.kid}")


def _seconds(text: str) -> float:
    from authz.config.quantity import parse_duration

    try:
        parsed: timedelta = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--ahead") from None
    return parsed.total_seconds()
