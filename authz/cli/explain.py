"""`authz explain`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import click

from authz.cli.files import BAD_CONFIG, FILE, load_or_exit

_DENIED = 1  # exit code


@click.command()
@click.option("--config", "file", type=FILE, required=True, help="The configuration file.")
@click.option("--method", default="GET", show_default=True, help="The request's method.")
@click.option("--host", default="localhost", show_default=True, help="Its host.")
@click.option("--path", default="/", show_default=True, help="Its path, with the query.")
@click.option("--token-file", type=FILE, help="A file with the token, which goes where the first source looks.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header; may be given again.")
@click.option("--context", "context", multiple=True, metavar="NAME=VALUE", help="A context_extension of the route.")
@click.option("--at", "at", metavar="TIME", help="When: seconds since 1970, or such as 2026-01-31T12:00:00Z; else now.")
@click.option("--jwks", type=FILE, help="A key set to judge the token by; else the issuer's is fetched.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
def explain(  # noqa: PLR0913 - one for each option
    *,
    file: Path,
    method: str,
    host: str,
    path: str,
    token_file: Path | None,
    headers: tuple[str, ...],
    context: tuple[str, ...],
    at: str | None,
    jwks: Path | None,
    as_json: bool,
) -> None:
    """Judge one request as the sidecar would, and show each step of the judgement.

    \b
    Exit codes: 0 allowed; 1 denied; 2 errors in the configuration
    Example:
      authz explain --config authz.yaml --path /orders/7 --token-file t.txt
    """  # noqa: D301 - click's mark for lines that stay as they are
    from authz.cli.explanation import InputError, Question, answer

    config = load_or_exit(file)
    question = Question(
        method=method,
        host=host,
        path=path,
        headers=_pairs(headers, ":"),
        context=dict(_pairs(context, "=")),
        token=token_file.read_text(encoding="utf-8", errors="replace").strip() if token_file is not None else None,
        at=time.time() if at is None else _instant(at),
        jwks=jwks.read_bytes() if jwks is not None else None,
    )
    try:
        explained = answer(question, config)
    except InputError as error:
        click.echo(f"{jwks}: {error}", err=True)
        sys.exit(BAD_CONFIG)
    click.echo(json.dumps(explained.document(), indent=2) if as_json else explained.table())
    sys.exit(0 if explained.allowed else _DENIED)


def _pairs(texts: Iterable[str], mark: str) -> list[tuple[str, str]]:
    pairs = [text.partition(mark) for text in texts]
    for name, found, _ in pairs:
        if not found or not name.strip():
            raise click.BadParameter(f"{name!r} has no {mark!r} between name and value")
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _instant(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time") from None
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; end it in Z for UTC")
    return moment.timestamp()
