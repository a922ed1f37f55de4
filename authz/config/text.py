"""The text of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from authz.config.problems import ConfigError, Problem

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024


def read_text(path: str | Path) -> str:
    """Read the text of the file at *path*. Raises ConfigError if it cannot be read, or is not UTF-8."""
    file = str(path)
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise ConfigError(file, [Problem(path=(), message=f"cannot be read: {error.strerror}")]) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(file, [Problem(path=(), message="is not UTF-8", line=line)]) from error
