"""What commands have in common: types of arguments, files, and exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:  # importing these would double the time of `authz health`
    from authz.config.document import Document
    from authz.config.model import Config

# Exit codes, the same for every command; 0 is success.
EXIT_FAILURE: Final = 1  # it ran, and the answer is no: denied, not ready, not reached, problems found
EXIT_USAGE: Final = 2  # wrong arguments (click's own number), or files that cannot be used

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
CONFIG: Final = click.option("--config", "file", type=FILE, required=True, help="The configuration file.")


class Seconds(click.FloatRange):
    """A number of seconds."""

    name = "number of seconds"  # used in error messages


def load_or_exit(file: Path) -> Config:
    """Load *file*, or print all of its errors and exit."""
    return read_or_exit(file)[1]


def read_or_exit(file: Path) -> tuple[Document, Config]:
    """Load *file* with the line numbers of its keys, or print all of its errors and exit."""
    from authz.config.load import read, validate
    from authz.config.problems import ConfigError

    try:
        document = read(file)
        return document, validate(document)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_USAGE)


def parse_or_exit(file: Path) -> Document:
    """Read *file*, YAML or JSON of any content, or print why it cannot be read and exit."""
    from authz.config.load import read
    from authz.config.problems import ConfigError

    try:
        document = read(file)
        if document.problems:
            raise ConfigError(str(file), document.problems)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_USAGE)
    return document


def read_bytes_or_exit(file: Path) -> bytes:
    """Read *file*, or print why it cannot be read and exit."""
    try:
        return file.read_bytes()
    except OSError as error:
        click.echo(f"{file}: cannot be read: {error.strerror}", err=True)
        sys.exit(EXIT_USAGE)
