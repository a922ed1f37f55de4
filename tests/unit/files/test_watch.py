"""Proves authz.files.watch: a file that was replaced is noticed once, however it was replaced."""

from __future__ import annotations

from pathlib import Path

from authz.files.stamp import FileStamp
from authz.files.watch import GONE_AFTER, FileWatch


def test_new_content_is_noticed_once(tmp_path: Path) -> None:
    """A file of another size is another file; after one look it is the known one."""
    file = tmp_path / "authz.yaml"
    file.write_text("one")
    watch = FileWatch(file)
    assert not watch.changed()
    file.write_text("other")
    assert [watch.changed() for _ in range(3)] == [False, True, False]


def test_swapped_folder_is_noticed(tmp_path: Path) -> None:
    """Kubernetes swaps a link to a folder: the path stays, the file behind it is new."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "authz.yaml").write_text("same")
    data = tmp_path / "..data"
    data.symlink_to("old")
    watch = FileWatch(data / "authz.yaml")
    swapped = tmp_path / "..tmp"
    swapped.symlink_to("new")
    swapped.rename(data)
    assert [watch.changed() for _ in range(2)] == [False, True]


def test_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """Between removal and replacement the last one counts."""
    file = tmp_path / "authz.yaml"
    file.write_text("one")
    watch = FileWatch(file)
    file.unlink()
    assert not watch.changed()
    file.write_text("again")
    assert [watch.changed() for _ in range(2)] == [False, True]


def test_file_that_stays_away_is_gone_once(tmp_path: Path) -> None:
    """After some looks at nothing it counts as gone; what comes back then is new, even if it was only moved away."""
    file, away = tmp_path / "authz.yaml", tmp_path / "away"
    file.write_text("one")
    watch = FileWatch(file)
    for _ in range(2):
        file.rename(away)
        looks = [(watch.changed(), watch.gone()) for _ in range(GONE_AFTER + 3)]
        assert looks == [(False, look == GONE_AFTER) for look in range(1, GONE_AFTER + 4)]
        away.rename(file)
        assert [(watch.changed(), watch.gone()) for _ in range(3)] == [(False, False), (True, False), (False, False)]


def test_file_that_is_away_for_a_moment_is_not_gone(tmp_path: Path) -> None:
    """Looks at nothing count in a row."""
    file, away = tmp_path / "authz.yaml", tmp_path / "away"
    file.write_text("one")
    watch = FileWatch(file)
    for _ in range(2):
        file.rename(away)
        assert [(watch.changed(), watch.gone()) for _ in range(GONE_AFTER - 1)] == [(False, False)] * (GONE_AFTER - 1)
        away.rename(file)
        assert [(watch.changed(), watch.gone()) for _ in range(2)] == [(False, False)] * 2


def test_what_is_read_anyway_is_not_told_again(tmp_path: Path) -> None:
    """A change that is read because a signal asked for it is not found again; the next one is."""
    file = tmp_path / "authz.yaml"
    file.write_text("one")
    watch = FileWatch(file)
    file.write_text("other")
    assert watch.changed(force=True)
    assert [watch.changed() for _ in range(3)] == [False] * 3
    assert watch.changed(force=True)
    file.write_text("a third")
    assert [watch.changed() for _ in range(2)] == [False, True]
    file.unlink()
    assert watch.changed(force=True)
    file.write_text("a third")
    assert [watch.changed() for _ in range(2)] == [False, True]


def test_file_that_is_still_being_written_is_not_taken(tmp_path: Path) -> None:
    """Half a configuration may ask for less than the whole: only what two looks agree on counts."""
    file = tmp_path / "authz.yaml"
    file.write_text("one")
    watch = FileWatch(file)
    for text in ("on", "one an", "one and"):
        file.write_text(text)
        assert not watch.changed()
    file.write_text("one and two")
    assert [watch.changed() for _ in range(2)] == [False, True]


def test_what_was_replaced_since_a_known_stamp_is_a_change(tmp_path: Path) -> None:
    """The stamp was taken before the content was read: a later file is found, however late the watch begins."""
    file = tmp_path / "authz.yaml"
    file.write_text("one")
    known = FileStamp.of(file)
    assert not FileWatch(file, known=known).changed()
    file.write_text("other")
    watch = FileWatch(file, known=known)
    assert watch.stamp == known
    assert [watch.changed() for _ in range(3)] == [False, True, False]
    assert watch.stamp == FileStamp.of(file)


def test_permission_that_comes_late_is_a_change(tmp_path: Path) -> None:
    """A file that could not be read is read again once it can be: its content and its times are the same."""
    file = tmp_path / "authz.yaml"
    file.write_text("one")
    file.chmod(0o000)
    watch = FileWatch(file)
    file.chmod(0o644)
    assert [watch.changed() for _ in range(3)] == [False, True, False]
