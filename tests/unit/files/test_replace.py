"""Proves that a file is replaced as a whole, and that what is returned is the stamp of what was written."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from authz.files.replace import replace_file
from authz.files.stamp import FileStamp


def test_the_stamp_is_that_of_the_new_file(tmp_path: Path) -> None:
    """Who wrote it need not read it again; only its owner can."""
    file = tmp_path / "state"
    file.write_bytes(b"before")
    assert replace_file(file, [b"one ", b"two"]) == FileStamp.of(file)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"one two", 0o600)


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """And nothing beside it."""
    file = tmp_path / "state"
    file.write_bytes(b"before")

    def fail() -> Iterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replace_file(file, fail())
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [("state", b"before")]
