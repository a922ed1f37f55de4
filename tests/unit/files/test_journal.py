"""Proves authz.files.journal: each line is read once by each process, whatever ends in the middle."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from authz.files.journal import Journal


def test_each_reader_reads_each_line_once(tmp_path: Path) -> None:
    """What one writes, the others read, and nothing twice; a file that is not there yet is empty."""
    one, two = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    assert list(one.read()) == []
    one.append(["a", "b"])
    assert list(two.read()) == [b"a", b"b"]
    two.append(["c"])
    assert list(two.read()) == [b"c"]
    assert list(one.read()) == [b"a", b"b", b"c"]
    assert list(one.read()) == []
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    """A crash in the middle of a line: it is not read as long as it has no end, and the next line stands alone."""
    journal = Journal(tmp_path / "j")
    journal.append(["first"])
    with journal.path.open("ab") as file:
        file.write(b'{"half')
    assert list(journal.read()) == [b"first"]
    journal.append(["second"])
    assert list(journal.read()) == [b'{"half', b"second"]


def test_lines_are_left_out(tmp_path: Path) -> None:
    """After a rewrite every reader begins again, and what is appended later is read too."""
    one, two = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    one.append(["keep", "drop", "keep too"])
    assert len(list(two.read())) == 3
    one.rewrite(lambda line: line != b"drop")
    two.append(["new"])
    assert list(one.read()) == [b"keep", b"keep too", b"new"]
    assert list(two.read()) == [b"keep", b"keep too", b"new"]
    assert (one.lines, two.lines) == (3, 3)


def test_a_rewrite_that_fails_changes_nothing(tmp_path: Path) -> None:
    """And leaves no file behind."""
    journal = Journal(tmp_path / "j")
    journal.append(["a"])

    def fail(_: bytes) -> bool:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        journal.rewrite(fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "j.lock"]
    assert list(journal.read()) == [b"a"]


def test_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    """Several writers, and one that leaves lines out meanwhile: all that is to be kept is there, each in one piece."""
    path, number, each = tmp_path / "j", 4, 50

    def write(name: int) -> None:
        journal = Journal(path)
        for line in range(each):
            journal.append([f"{name} {line} {'x' * 300}"])

    def tidy() -> None:
        for _ in range(20):
            Journal(path).rewrite(lambda line: not line.startswith(b"0 "))

    threads = [*(Thread(target=write, args=(name,)) for name in range(number)), Thread(target=tidy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [line.split() for line in Journal(path).read()]
    assert all(len(parts) == 3 and parts[2] == b"x" * 300 for parts in found)
    kept = [(int(name), int(line)) for name, line, _ in found if name != b"0"]
    assert sorted(kept) == [(name, line) for name in range(1, number) for line in range(each)]
