"""`authz keys`."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import click

from authz.admin.times import ago, span
from authz.cli.admin_client import ADMIN, CONFIG_OF_ADMIN, AdminPort, find_admin
from authz.cli.files import EXIT_FAILURE
from authz.cli.terminal import console, printable

if TYPE_CHECKING:
    from rich.console import Console

_ALL: Final = "all"
_MAX_POLLS: Final = 50  # of whether a refresh has ended
_POLL_SECONDS: Final = 0.1  # between two polls


@click.command()
@CONFIG_OF_ADMIN
@ADMIN
@click.option("--refresh", "issuer", metavar="ISSUER", help="Have its keys fetched now; the configured name, or 'all'.")
@click.option("--own", is_flag=True, help="Show the keys that sign tokens for the upstream, and their phases.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def keys(*, file: Path | None, admin: str | None, issuer: str | None, own: bool, as_json: bool) -> None:
    """Show the keys of every issuer, as a running sidecar on this host has them.

    \b
    Exit codes: 0 fine; 1 no sidecar answers; 2 bad arguments
    Examples:
      authz keys
      authz keys --config authz.yaml
      authz keys --refresh corporate
      authz keys --own
      authz keys --admin http://127.0.0.1:9292 --json
    """  # noqa: D301 - click's mark against rewrapping
    port = find_admin(file, admin)
    try:
        if issuer is not None:
            _refresh(port, None if issuer == _ALL else issuer)
        document = dict(port.read("GET", "/signing")) if own else _fetch(port)
    except (OSError, ValueError) as error:
        click.echo(f"no keys from {port.url}: {error} (is --admin the sidecar's admin.listen, on this host?)", err=True)
        sys.exit(EXIT_FAILURE)
    now = time.time()  # by this host's clock, which is the sidecar's too
    if as_json:
        click.echo(json.dumps(document, indent=2))
    elif own:
        _print_own(document, now)
    else:
        _print_tables(document, now)


def _print_own(document: dict[str, Any], now: float) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    terminal = console()
    if document["problem"]:
        terminal.print(Text(f"problem: {printable(document['problem'])}"), soft_wrap=True)
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("kid", overflow="fold")
    for name in ("alg", "phase", "published", "signs since", "signed until"):
        table.add_column(name, no_wrap=True)
    for key in document["keys"]:
        times = ("-" if key[name] is None else ago(key[name], now) for name in ("published", "started", "stopped"))
        table.add_row(*(Text(printable(cell)) for cell in (key["kid"], key["algorithm"], key["phase"], *times)))
    terminal.print(table)
    if document["replaced_at"] is not None:
        terminal.print(f"replaced in {span(max(document['replaced_at'] - now, 0.0))}")


def _refresh(admin: AdminPort, issuer: str | None) -> None:
    """Request a fetch of the keys, and wait until it has ended, at most for the default timeout of a fetch.

    Raises OSError, ValueError.
    """
    status, body = admin.request(
        "POST", "/keys/refresh" + ("" if issuer is None else f"?{urlencode({'issuer': issuer})}")
    )
    if status == HTTPStatus.NOT_FOUND:
        raise ValueError(f"nothing is fetched for an issuer {issuer!r}")
    if status != HTTPStatus.ACCEPTED:
        raise OSError(f"HTTP status {status}")
    started = set(json.loads(body)["issuers"])
    for _ in range(_MAX_POLLS):
        if not any(keys["refreshing"] for keys in _fetch(admin)["issuers"] if keys["issuer"] in started):
            return
        time.sleep(_POLL_SECONDS)


def _fetch(admin: AdminPort) -> dict[str, Any]:
    """Ask the admin listener. Raises OSError, ValueError."""
    status, body = admin.request("GET", "/keys")
    if status != HTTPStatus.OK:
        raise OSError(f"HTTP status {status}")
    document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("issuers"), list):
        raise ValueError("not an admin listener: no list of issuers")  # noqa: TRY004 - bad data
    return document


def _print_tables(document: dict[str, Any], now: float) -> None:
    terminal = console()
    for issuer in document["issuers"]:
        _print_issuer(issuer, terminal, now)
    for number in document.get("silent_workers", []):
        terminal.print(f"worker {number} does not answer")


def _print_issuer(issuer: dict[str, Any], terminal: Console, now: float) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def say(text: str) -> None:
        terminal.print(Text(text), soft_wrap=True)

    worker = f" (worker {issuer['worker']})" if "worker" in issuer else ""
    say(f"{issuer['issuer']}: {issuer['iss']}{worker}")
    say(f"  source        {issuer['source']}")
    say(f"  state         {_state(issuer)}")
    if issuer["next_refresh_seconds"] is not None:
        due = span(issuer["next_refresh_seconds"])
        say(f"  next refresh  {'in progress' if issuer['refreshing'] else f'in {due}'}")
        say(f"  unknown kids  {issuer['unknown_kids']}, flaps {issuer['flaps']}")
    if error := issuer["last_error"]:
        say(f"  last error    {error['at']} {error['result']}: {error['text']}")
    named_otherwise = any(key["thumbprint"] != key["kid"] for key in issuer["keys"])
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("kid", *(["thumbprint"] if named_otherwise else [])):
        table.add_column(name, overflow="fold")
    for name in ("key", "alg", "first seen", "last used"):
        table.add_column(name, no_wrap=True)
    for key in issuer["keys"]:
        thumbprint = "the kid" if key["kid"] and key["kid"] == key["thumbprint"] else key["thumbprint"]
        kind = f"{key['kty']} {key['crv'] or key['size']}"
        times = (
            "-" if key[name] is None else ago(datetime.fromisoformat(key[name]).timestamp(), now)
            for name in ("first_seen", "last_used")
        )
        cells = (key["kid"], *([thumbprint] if named_otherwise else []), kind, key["alg"], *times)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    terminal.print(table)
    for kid, why in ((key["kid"], key["why"]) for key in issuer["rejected"]):
        say(f"  rejected      {printable(kid)}: {printable(why)}")
    for kid, note in ((key["kid"], note) for key in issuer["keys"] for note in key.get("notes", ())):
        say(f"  note          {printable(kid)}: {printable(note)}")
    for kid, why in ((key["kid"], key["not_serving"]) for key in issuer["keys"] if key["not_serving"]):
        say(f"  unusable      {printable(kid)}: {printable(why)}")
    for name in issuer["blocked_unmatched"]:
        say(f"  unmatched     {printable(name)}: a blocked key that is not in the set")


def _state(issuer: dict[str, Any]) -> str:
    if issuer["age_seconds"] is None:
        return "serving" if issuer["serving"] else "no keys yet"
    age = f"fetched or confirmed {span(issuer['age_seconds'])} ago"
    if not issuer["serving"]:
        return f"withdrawn, {age}"
    return f"serving, {age}, good for another {span(issuer['stale_in_seconds'])}"
