"""Output to a terminal: colour only there, and only without NO_COLOR; progress on stderr."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

_NOT_WRAPPED: Final = 100_000  # characters


def say(text: str, colour: str | None = None, *, err: bool = False) -> None:
    """Print one line, in *colour* on a terminal."""
    click.echo(click.style(text, fg=colour) if colour and has_colours(err=err) else text, err=err, color=None)


def has_colours(*, err: bool = False) -> bool:
    """Return whether stdout, or stderr, is a terminal that may be coloured (no-color.org)."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def progress(text: str) -> AbstractContextManager[object]:
    """Show progress on stderr, if it is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)


def console() -> Console:
    """Return a console that writes tables to stdout, wrapped only for a terminal, without automatic colours."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _NOT_WRAPPED)


def printable(text: str | None) -> str:
    """Escape text that an issuer or a server chose, so that it cannot control the terminal."""
    from authz.telemetry.redaction import escaped

    return escaped(text) or "-"
