"""`authz revoke`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import click

from authz.cli.admin_client import ADMIN, CONFIG_OF_ADMIN, AdminPort, find_admin
from authz.cli.files import EXIT_FAILURE, EXIT_USAGE, FILE, read_bytes_or_exit
from authz.cli.terminal import printable

_PATH: Final = "/revocations"
_MAX_SENT: Final = 200  # entries in one request
_JSON_STATUS: Final = frozenset(
    {
        HTTPStatus.OK,
        HTTPStatus.ACCEPTED,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
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
@click.option("--undo", is_flag=True, help="Take back what authz revoke has revoked by this name.")
@click.option("--show", is_flag=True, help="Show what is revoked, or what revokes a name, and revoke nothing.")
def revoke(  # noqa: PLR0913 - options
    *,
    file: Path | None,
    admin: str | None,
    issuer: str | None,
    token_file: Path | None,
    before: str | None,
    list_file: Path | None,
    only_print: bool,
    undo: bool,
    show: bool,
    **targets: str | None,
) -> None:
    """Revoke tokens at a running sidecar, or write entries for a list.

    They count from the next request on, in all workers of this sidecar, and with shared_state in all replicas. They are
    kept for revocation.max_lifetime, by when each such token has expired.

    --undo takes back the last 10,000 entries of this command, in all replicas, and nothing that an issuer has revoked.

    \b
    Exit codes: 0 done; 1 no sidecar answers, it refuses, or other replicas
    do not know yet; 2 bad arguments
    Examples:
      authz revoke --issuer https://login.example.com/ --sub alice --before now
      authz revoke --issuer https://login.example.com/ --sid 08a5019c
      authz revoke --token-file leaked.txt
      authz revoke --issuer https://login.example.com/ --jti 7f1c --print
      authz revoke --list revoked.json
      authz revoke --issuer https://login.example.com/ --sub alice --undo
      authz revoke --issuer https://login.example.com/ --sub alice --show
      authz revoke --show
    """  # noqa: D301 - click's mark against rewrapping
    from authz.tooling.revocation_lines import describe_found, describe_sources

    entries = _collect(issuer, targets, token_file, before, list_file)
    if only_print:
        click.echo(json.dumps({"revoked": entries}, indent=2))
        return
    if (not show and not entries) or (show and undo):
        raise click.UsageError("say what to revoke, such as --issuer ISS --sub NAME; or --show")
    if (show or undo) and before is not None:
        raise click.UsageError("--before is for what is revoked: --undo takes back all by this name, --show shows it")
    port = find_admin(file, admin)
    path = f"{_PATH}/find" if show else f"{_PATH}/undo" if undo else _PATH
    parts = [entries[start : start + _MAX_SENT] for start in range(0, len(entries), _MAX_SENT)]
    try:
        if not entries:
            _print(describe_sources(_send(port, "GET", _PATH, None)))
            return
        answers = [_send(port, "POST", path, json.dumps(part).encode()) for part in parts]
    except (OSError, ValueError) as error:
        outcome = "unknown" if show else "not taken back" if undo else "not revoked"
        click.echo(f"{outcome} at {port.url}: {error} (is --admin the sidecar's admin.listen?)", err=True)
        sys.exit(EXIT_FAILURE)
    if show:
        _print(describe_found(entries, [sources for answer in answers for sources in answer["revoked"]]))
        return
    _report(answers, len(entries), undo=undo)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _report(answers: list[dict[str, Any]], entries: int, *, undo: bool) -> None:
    """Print the result of a command; exit if other replicas do not know it yet."""
    unshared = next((answer["unshared"] for answer in answers if "unshared" in answer), None)
    if unshared is not None:
        done = "taken back" if undo else "revoked"
        click.echo(f"{done} here; other replicas do not know yet: {printable(unshared)}", err=True)
        click.echo("it is sent when the shared state answers; run this again to see whether it was", err=True)
    elif undo:
        click.echo(f"taken back: {sum(answer['undone'] for answer in answers)} entries")
    else:
        known_already = entries - (new := sum(answer["new"] for answer in answers))
        click.echo(f"revoked: {new} new{f', {known_already} known already' if known_already else ''}")
    for number in answers[-1].get("silent_workers", []):
        click.echo(f"worker {number} did not answer: it reads the entries within a second")
    if unshared is not None:
        sys.exit(EXIT_FAILURE)


def _send(port: AdminPort, method: str, path: str, body: bytes | None) -> dict[str, Any]:
    """Send one request. Raises OSError, ValueError."""
    status, answer = port.request(method, path, body)
    text = answer.decode("utf-8", "replace").strip()
    if status not in _JSON_STATUS:
        raise OSError(printable(text) or f"HTTP status {status}")
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not an admin listener: no JSON object")  # noqa: TRY004 - bad data
    if status not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
        raise OSError(printable("; ".join(map(str, document.get("errors", [])))))
    return document


def _collect(
    issuer: str | None,
    targets: dict[str, str | None],
    token_file: Path | None,
    before: str | None,
    list_file: Path | None,
) -> list[Any]:
    """Return the entries that the arguments mean."""
    entries: list[Any] = _read_list(list_file) if list_file is not None else []
    values = {name: value for name in _NAMED if (value := targets[name]) is not None}
    iss = issuer
    if token_file is not None:
        from_token, digest = _read_token(read_bytes_or_exit(token_file).decode("utf-8", "replace").strip())
        values, iss = {**values, "digest": digest}, issuer or from_token
    if values and iss is None:
        raise click.UsageError("give --issuer, the iss of the tokens")
    if (issuer or before) and not values:
        raise click.UsageError("say what to revoke: --jti, --sid, --sub, --client, --key, --digest or --token-file")
    times = {} if before is None else {"before": _read_time(before)}
    return entries + [{"iss": iss, name: value, **times} for name, value in values.items()]


def _read_list(file: Path) -> list[Any]:
    from authz.core.revocation_entries import parse_revocation_list

    data = read_bytes_or_exit(file)
    try:
        parsed = parse_revocation_list(data, max_entries=1_000_000)
    except ValueError as error:
        click.echo(f"{file}: {error}", err=True)
        sys.exit(EXIT_USAGE)
    for index, why in parsed.errors:
        click.echo(f"{file}: entry {index}: {why}", err=True)
    if parsed.errors:
        sys.exit(EXIT_USAGE)
    content = json.loads(data)
    listed: list[Any] = content["revoked"] if isinstance(content, dict) else content
    return listed


def _read_token(text: str) -> tuple[str | None, str]:
    """Return the iss of a token, None if it is no JWT, and its digest."""
    from authz.core.reasons import Rejected
    from authz.core.revocation import token_digest
    from authz.core.token import parse_token

    try:
        token = parse_token(text, max_bytes=1 << 20)
        iss = token.members.get("iss")
    except Rejected:
        return None, token_digest(text)
    return iss if isinstance(iss, str) else None, token_digest(token)


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
