"""`authz explain`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from authz.cli.admin_client import find_admin
from authz.cli.files import EXIT_FAILURE, EXIT_USAGE, FILE, load_or_exit, read_bytes_or_exit
from authz.cli.terminal import progress, say

if TYPE_CHECKING:
    from authz.tooling.explain.explanation import Question

_FILE_OR_STDIN = click.Path(exists=True, dir_okay=False, allow_dash=True)


@click.command()
@click.option("--config", "file", type=FILE, help="The configuration file; with --live, where to ask.")
@click.option("--live", is_flag=True, help="Ask the running sidecar: its rules and keys, and not this file's.")
@click.option("--admin", help="With --live: its admin listener, in place of the one in --config.")
@click.option("--method", default="GET", show_default=True, help="The request's method.")
@click.option("--host", default="localhost", show_default=True, help="Its host.")
@click.option("--path", default="/", show_default=True, help="Its path, with the query.")
@click.option("--scheme", type=click.Choice(["http", "https"]), default="https", show_default=True, help="Its scheme.")
@click.option("--address", default="", help="The client's address.")
@click.option("--certificate", type=FILE, help="The client's certificate, PEM; for tokens that are bound to one.")
@click.option("--token-file", type=_FILE_OR_STDIN, help="A file with the token, or - for stdin.")
@click.option("--proof", type=_FILE_OR_STDIN, help="A file with the proof for the token (DPoP), or - for stdin.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header; may be repeated.")
@click.option("--context", "context", multiple=True, metavar="NAME=VALUE", help="A context_extension of the route.")
@click.option(
    "--at", "at", metavar="TIME", help="The time: seconds since 1970, or as 2026-01-31T12:00:00Z; default now."
)
@click.option("--jwks", type=FILE, help="A key set to verify the token with; otherwise the issuer's is fetched.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def explain(  # noqa: PLR0913 - one for each option
    *,
    file: Path | None,
    live: bool,
    admin: str | None,
    method: str,
    host: str,
    path: str,
    scheme: str,
    address: str,
    certificate: Path | None,
    token_file: str | None,
    proof: str | None,
    headers: tuple[str, ...],
    context: tuple[str, ...],
    at: str | None,
    jwks: Path | None,
    as_json: bool,
) -> None:
    """Decide one request as the sidecar would, and show each step.

    \b
    Exit codes: 0 allowed; 1 denied; 2 bad arguments, or errors in the files
    Examples:
      authz explain --config authz.yaml --path /orders/7 --token-file t.txt
      authz explain --config authz.yaml --token-file - < t.txt
      authz explain --config authz.yaml --method POST --path /orders \\
        --token-file t.txt --jwks keys.json --at 2026-01-31T12:00:00Z
      authz explain --live --config authz.yaml --path /orders --token-file t.txt
    """  # noqa: D301 - click's mark against rewrapping
    from authz.tooling.explain.explanation import Question

    if live and jwks is not None:
        raise click.UsageError("--live uses the keys of the running sidecar: leave out --jwks")
    if token_file == proof == "-":
        raise click.UsageError("stdin is either the token or the proof")
    if admin is not None and not live:
        raise click.UsageError("--admin requires --live")
    question = Question(
        method=method,
        host=host,
        path=path,
        headers=_pairs("--header", headers, ":"),
        context=dict(_pairs("--context", context, "=")),
        scheme=scheme,
        address=_address(address),
        certificate=_certificate(certificate),
        token=_token(token_file),
        proof=_token(proof),
        at=time.time() if at is None else _instant(at),
        jwks=read_bytes_or_exit(jwks) if jwks is not None else None,
    )
    if live:
        explanations = _ask_running(question, file, admin)
    elif file is not None:
        explanations = [_answer(question, file, jwks)]
    else:
        raise click.UsageError("Missing option '--config'.")
    if as_json:
        click.echo(json.dumps(explanations if live else explanations[0], indent=2))
    else:
        for explanation in explanations:
            _print(explanation)
    sys.exit(0 if all(explanation["decision"] != "deny" for explanation in explanations) else EXIT_FAILURE)


def _answer(question: Question, file: Path, jwks: Path | None) -> dict[str, Any]:
    """Decide with the configuration file and the key set, or print the error and exit."""
    from authz.tooling.explain.explanation import InputError, explain_question

    config = load_or_exit(file)
    try:
        with progress("deciding"):
            return explain_question(question, config).document()
    except InputError as error:
        say(f"{jwks}: {error}; give a JSON Web Key Set, such as the issuer's jwks_uri answers", err=True)
        sys.exit(EXIT_USAGE)


def _ask_running(question: Question, file: Path | None, admin: str | None) -> list[dict[str, Any]]:
    """Return the explanation of each worker of the running sidecar, or print the error and exit."""
    port = find_admin(file if admin is None else None, admin)
    try:
        document = port.read("POST", "/explain", json.dumps({**asdict(question), "jwks": None}).encode())
        return list(document["explanations"])
    except (OSError, ValueError, KeyError) as error:
        click.echo(f"no explanation from {port.url}: {error} (does it run, with admin.console.enabled?)", err=True)
        sys.exit(EXIT_USAGE)


def _print(explanation: dict[str, Any]) -> None:
    from authz.tooling.explain.explanation import format_document

    if "worker" in explanation:
        click.echo(f"worker {explanation['worker']}:")
    *steps, verdict = format_document(explanation).splitlines()
    click.echo("\n".join(steps))
    say(verdict, "red" if explanation["decision"] == "deny" else "green")


def _text(file: Path | None) -> str | None:
    return read_bytes_or_exit(file).decode("utf-8", "replace").strip() if file is not None else None


def _token(file: str | None) -> str | None:
    if file == "-":
        return sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    return None if file is None else _text(Path(file))


def _address(text: str) -> str:
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not an IP address: write one without port", param_hint="--address"
        ) from None


def _certificate(file: Path | None) -> str:
    """Read the certificate; reject one that the core cannot parse, because the core would treat it as absent."""
    from authz.core.binding import certificate_thumbprint

    text = _text(file) or ""
    if file is not None and certificate_thumbprint(quote(text, safe="")) is None:
        message = f"{file}: contains no readable PEM certificate (-----BEGIN CERTIFICATE-----)"
        raise click.BadParameter(message, param_hint="--certificate")
    return text


def _pairs(option: str, texts: Iterable[str], mark: str) -> list[tuple[str, str]]:
    pairs = [text.partition(mark) for text in texts]
    for name, separator, _ in pairs:
        if not separator or not name.strip():
            raise click.BadParameter(
                f"{name!r} has no {mark!r} between name and value: write NAME{mark}VALUE", param_hint=option
            )
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _instant(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time: write seconds since 1970, or such as 2026-01-31T12:00:00Z", param_hint="--at"
        ) from None
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; end it in Z for UTC", param_hint="--at")
    return moment.timestamp()
