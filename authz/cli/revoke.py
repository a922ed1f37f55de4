"""`authz revoke`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click

from authz.cli.admin_client import ADMIN, CONFIG_OF_ADMIN, AdminPort, find_admin
from authz.cli.files import BAD_CONFIG, FILE, FOUND, read_bytes_or_exit
from authz.cli.terminal import printable

_PATH: Final = "/revocations"
_MAX_SENT: Final = 200  # entries in one request
_JSON_STATUS: Final = frozenset(
    {
        HTTPStatus.OK,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.INSUFFICIENT_STORAGE,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
_NAMED: Final = ("jti", "sid", "sub", "email", "client", "key", "digest")


@click.command()
@CONFIG_OF_ADMIN
@ADMIN
@click.option("--issuer", metavar="ISS", help="The iss of the tokens that are revoked.")
@click.option("--jti", help="Revoke one token, by its jti.")
@click.option("--sid", help="Revoke the tokens of a session.")
@click.option("--sub", help="Revoke the tokens of a subject; with --before, those issued until then.")
@click.option("--email", help="The same, by the claim email.")
@click.option("--client", help="Revoke the tokens of an OAuth client.")
@click.option("--key", help="Revoke what a key has signed (kid or thumbprint), or is bound to (jkt, x5t#S256).")
@click.option("--digest", help="Revoke one token, by the digest that --token-file --print shows.")
@click.option("--token-file", type=FILE, help="Revoke the token in this file, by its digest.")
@click.option(
    "--before", metavar="TIME", help="Only tokens issued until then: now, seconds since 1970, or 2026-11-30T12:00:00Z."
)
@click.option("--list", "list_file", type=FILE, help="Revoke what a file of entries lists.")
@click.option("--print", "only_print", is_flag=True, help="Print the entries for a list, and send nothing.")
@click.option("--show", is_flag=True, help="Show the sources of revocations and how many entries each has.")
def revoke(  # noqa: PLR0913 - options
    *,
    file: Path | None,
    admin: str | None,
    issuer: str | None,
    token_file: Path | None,
    before: str | None,
    list_file: Path | None,
    only_print: bool,
    show: bool,
    **named: str | None,
) -> None:
    """Revoke tokens at a running sidecar, or write entries for a list.

    They count from the next request on, in all workers of this sidecar; replicas take them from a list or from a
    shared file. They are kept for revocation.max_lifetime, by when each such token has expired.

    \b
    Exit codes: 0 revoked; 1 no sidecar answers, or it refuses; 2 bad arguments
    Examples:
      authz revoke --issuer https://login.example.com/ --sub alice --before now
      authz revoke --issuer https://login.example.com/ --sid 08a5019c
      authz revoke --token-file leaked.txt
      authz revoke --issuer https://login.example.com/ --jti 7f1c --print
      authz revoke --list revoked.json
      authz revoke --show
    """  # noqa: D301 - click's mark against rewrapping
    entries = _collect(issuer, named, token_file, before, list_file)
    if only_print:
        click.echo(json.dumps({"revoked": entries}, indent=2))
        return
    if show == bool(entries):
        raise click.UsageError("say what to revoke, such as --issuer ISS --sub NAME; or --show")
    port = find_admin(file, admin)
    try:
        if show:
            _show(_send(port, "GET", None))
            return
        parts = [entries[at : at + _MAX_SENT] for at in range(0, len(entries), _MAX_SENT)]
        answers = [_send(port, "POST", json.dumps(part).encode()) for part in parts]
    except (OSError, ValueError) as error:
        click.echo(f"not revoked at {port.url}: {error} (is --admin the sidecar's admin.listen?)", err=True)
        sys.exit(FOUND)
    known = len(entries) - (new := sum(answer["new"] for answer in answers))
    click.echo(f"revoked: {new} new{f', {known} known already' if known else ''}")
    for number in answers[-1].get("silent_workers", []):
        click.echo(f"worker {number} did not answer: it reads the entries within a second")


def _send(port: AdminPort, method: str, body: bytes | None) -> dict[str, Any]:
    """Send one request. Raises OSError, ValueError."""
    status, answer = port.request(method, _PATH, body)
    text = answer.decode("utf-8", "replace").strip()
    if status not in _JSON_STATUS:
        raise OSError(printable(text) or f"HTTP status {status}")
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not an admin listener: no JSON object")  # noqa: TRY004 - bad data
    if status != HTTPStatus.OK:
        raise OSError(printable("; ".join(map(str, document.get("errors", [])))))
    return document


def _collect(
    issuer: str | None,
    named: dict[str, str | None],
    token_file: Path | None,
    before: str | None,
    list_file: Path | None,
) -> list[Any]:
    """Return the entries that the arguments mean."""
    entries: list[Any] = _read_list(list_file) if list_file is not None else []
    given = {name: value for name in _NAMED if (value := named[name]) is not None}
    iss = issuer
    if token_file is not None:
        from_token, digest = _read_token(read_bytes_or_exit(token_file).decode("utf-8", "replace").strip())
        given, iss = {**given, "digest": digest}, issuer or from_token
    if given and iss is None:
        raise click.UsageError("give --issuer, the iss of the tokens")
    if (issuer or before) and not given:
        raise click.UsageError("say what to revoke: --jti, --sid, --sub, --client, --key, --digest or --token-file")
    times = {} if before is None else {"before": _read_time(before)}
    return entries + [{"iss": iss, name: value, **times} for name, value in given.items()]


def _read_list(file: Path) -> list[Any]:
    from authz.core.revocation_entries import parse_revocation_list

    data = read_bytes_or_exit(file)
    try:
        read = parse_revocation_list(data, max_entries=1_000_000)
    except ValueError as error:
        click.echo(f"{file}: {error}", err=True)
        sys.exit(BAD_CONFIG)
    for place, why in read.errors:
        click.echo(f"{file}: entry {place}: {why}", err=True)
    if read.errors:
        sys.exit(BAD_CONFIG)
    content = json.loads(data)
    listed: list[Any] = content["revoked"] if isinstance(content, dict) else content
    return listed


def _read_token(text: str) -> tuple[str | None, str]:
    """Return the iss of a token, None if it is no JWT, and its digest."""
    from authz.core.reasons import Rejected
    from authz.core.revocation import token_digest
    from authz.core.token import parse_token

    try:
        iss = parse_token(text, max_bytes=1 << 20).members.get("iss")
    except Rejected:
        return None, token_digest(text, jwt=False)
    return iss if isinstance(iss, str) else None, token_digest(text, jwt=True)


def _read_time(text: str) -> float:
    if text == "now":
        return datetime.now(UTC).timestamp()
    try:
        if text.replace(".", "", 1).isdigit():
            return float(text)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: write now, seconds since 1970, or 2026-11-30T12:00:00Z", param_hint="--before"
        ) from None


def _show(document: dict[str, Any]) -> None:
    for source in document["sources"]:
        by = ", ".join(f"{count} by {name}" for name, count in source.get("by", {}).items() if count)
        state = "" if source.get("available", True) else ", not available"
        error = f", last error: {source['last_error']}" if source.get("last_error") else ""
        click.echo(
            printable(f"{source['source']}: {source['entries']} entries{f' ({by})' if by else ''}{state}{error}")
        )
    if not document["sources"]:
        click.echo("nothing is revoked, and there is no list")
