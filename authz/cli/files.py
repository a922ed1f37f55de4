"""The configuration file as commands take it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:  # half of the time that `authz health` would take
    from authz.config.document import Document
    from authz.config.model import Config

BAD_CONFIG: Final = 2  # exit code

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


def load_or_exit(file: Path) -> Config:
    """Load *file*, or print everything that is wrong with it and exit."""
    return read_or_exit(file)[1]


def read_or_exit(file: Path) -> tuple[Document, Config]:
    """Load *file* and keep its text's lines, or print everything that is wrong with it and exit."""
    from authz.config.load import read, validate
    from authz.config.problems import ConfigError

    try:
        document = read(file)
        return document, validate(document)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_CONFIG)
