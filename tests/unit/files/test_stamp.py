"""Proves authz.files.stamp: whatever makes a file another one, or readable at last, gives it another stamp."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from authz.files.stamp import FileStamp


def append(file: Path) -> None:
    """Write more, and pretend that it was done at the same time as before."""
    before = file.stat()
    file.write_text("one and more")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path) -> None:
    """Put another file of the same size and time in its place."""
    before, other = file.stat(), file.with_suffix(".new")
    other.write_text("two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(file)


def touch(file: Path) -> None:
    """Rewrite it at another time."""
    os.utime(file, ns=(0, 0))


def allow(file: Path) -> None:
    """Let others read it."""
    file.chmod(0o644)


@pytest.mark.parametrize("change", [append, replace, touch, allow])
def test_another_state_has_another_stamp(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Size, time, identity and permissions: one that differs is enough."""
    file = tmp_path / "file"
    file.write_text("one")
    file.chmod(0o600)
    before = FileStamp.of(file)
    assert FileStamp.of(str(file)) == before
    change(file)
    assert FileStamp.of(file) != before


def test_what_is_not_there_has_none(tmp_path: Path) -> None:
    """Asked for any, it is None; asked for one, the error names the file."""
    missing = tmp_path / "missing"
    assert FileStamp.of_any(missing) is None
    with pytest.raises(FileNotFoundError, match="missing"):
        FileStamp.of(missing)


def test_a_pipe_is_no_regular_file(tmp_path: Path) -> None:
    """Anyone who opened it would wait for its writer."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert not FileStamp.of(tmp_path / "pipe").is_regular
    assert not FileStamp.of(tmp_path).is_regular
    assert FileStamp.of(tmp_path / "file").is_regular
