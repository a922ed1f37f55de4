"""Proves authz.signing.sealing: a secret can be replaced while values that the one before has encrypted are stored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from authz.signing.sealing import MIN_SECRET, Sealer

NAME: Final = "authz:signing"
FIRST: Final = b"a" * MIN_SECRET
SECOND: Final = b"b" * MIN_SECRET


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with the first secret."""
    path = tmp_path / "secret"
    path.write_bytes(FIRST)
    return path


def write_later(file: Path, secret: bytes) -> None:
    """Write *secret*, with a time of change that differs from the one before."""
    changed_at = file.stat().st_mtime_ns + 1_000_000_000
    file.write_bytes(secret)
    os.utime(file, ns=(changed_at, changed_at))


def test_the_secret_before_decrypts_until_a_value_of_the_new_one_was_read(file: Path) -> None:
    """Other replicas may still write by the secret before."""
    sealer = Sealer(file)
    old = sealer.seal(b"text", NAME)
    write_later(file, SECOND)
    assert sealer.open(old, NAME) == (b"text", False)
    assert sealer.open(sealer.seal(b"text", NAME), NAME) == (b"text", True)
    with pytest.raises(ValueError, match="not encrypted by this secret"):
        sealer.open(old, NAME)


def test_a_file_that_is_written_again_with_the_same_secret_is_no_new_secret(file: Path) -> None:
    """Kubernetes replaces all files of a volume if one of them changes: the secret before must still decrypt."""
    sealer = Sealer(file)
    old = sealer.seal(b"text", NAME)
    write_later(file, SECOND)
    assert sealer.open(old, NAME) == (b"text", False)
    write_later(file, SECOND)
    assert sealer.open(old, NAME) == (b"text", False)
