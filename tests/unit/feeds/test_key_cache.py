"""Proves that last good keys survive a restart, and that nothing else gets in that way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authz.feeds.http.fetch import Response
from authz.feeds.key_cache import KeyCache
from authz.telemetry.keys import Refresh
from tests.fakes.clock import FakeClock
from tests.unit.feeds.rig import JWKS, K1, K2, Rig, document, fail, publish

DAY = 86_400.0


def in_folder(
    folder: Path, fingerprint: str = "b1", authorities: Callable[[], str] = lambda: ""
) -> Callable[[FakeClock], KeyCache]:
    """Make the cache of one issuer."""
    return lambda clock: KeyCache(
        folder,
        "a",
        fingerprint=lambda authorities: f"{fingerprint}{authorities}",
        authorities=authorities,
        max_age=DAY,
        max_bytes=262_144,
        now=clock.time,
    )


def restarted(before: Rig, cache: Callable[[FakeClock], KeyCache], *, down: float = 10.0) -> Rig:
    """Start again after so many seconds, with another monotonic clock and an issuer that is down."""
    after = Rig(cache=cache, clock=FakeClock(wall=before.clock.time() + down, monotonic=5.0))
    after.site.at[JWKS] = fail(Refresh.UNREACHABLE)
    after.feed.restore()
    return after


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    """They are served at once, count as had, and a refresh is due at once."""
    before = Rig(cache=in_folder(tmp_path))
    before.run()
    fetched = before.clock.time()
    after = restarted(before, in_folder(tmp_path))
    assert after.kids == {"k1"}
    assert after.feed.view.last_good is not None
    assert after.feed.due() == after.clock.monotonic()
    assert after.metric("authz_keys_last_success_timestamp_seconds") == fetched
    after.site.at[JWKS] = publish(K2)
    after.run()
    assert after.kids == {"k2"}


def test_large_set_survives_a_restart(tmp_path: Path) -> None:
    """What a set may hold, the file that keeps it may hold too: commas inside the document are none of the file's."""
    cache = in_folder(tmp_path)(FakeClock())
    document = b"{" + b",".join(b'"%d":1' % number for number in range(3000)) + b"}"
    cache.save(document, FakeClock().time(), "")
    cached = cache.load()
    assert cached is not None
    assert cached.document == document


def test_age_counts_from_the_fetch(tmp_path: Path) -> None:
    """A restart does not renew the keys: they go at `max_stale` after they were fetched."""
    before = Rig(cache=in_folder(tmp_path))
    before.run()
    after = restarted(before, in_folder(tmp_path), down=DAY / 2)
    after.run(DAY / 2 - 1)
    assert after.kids == {"k1"}
    after.run(1)
    assert after.kids is None


def test_not_modified_renews_the_file(tmp_path: Path) -> None:
    """What was confirmed later is as young as its confirmation."""
    before = Rig(cache=in_folder(tmp_path))
    before.site.at[JWKS] = publish(K1, etag='"1"')
    before.run()
    before.site.at[JWKS] = lambda headers: Response(304, {}, b"")
    before.run(600)
    fetched_at = json.loads((tmp_path / "a.json").read_text())["fetched_at"]
    assert before.clock.time() - fetched_at < 200


def test_file_and_folder_are_the_owners_only(tmp_path: Path) -> None:
    """0600 in 0700, and no half-written file beside it."""
    folder = tmp_path / "deep" / "cache"
    Rig(cache=in_folder(folder)).run()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == ["a.json"]
    assert (folder / "a.json").stat().st_mode & 0o777 == 0o600


def test_file_belongs_to_the_authorities_of_the_fetch(tmp_path: Path) -> None:
    """Where a CA file is replaced between fetch and save, the keys are still those of the old one, and no others'."""
    before = Rig(cache=in_folder(tmp_path, authorities=lambda: "new"))
    before.site.at[JWKS] = lambda _: Response(200, {}, document(K1), "old")
    before.run()
    after = restarted(before, in_folder(tmp_path, authorities=lambda: "new"))
    assert after.published == []
    same = restarted(before, in_folder(tmp_path, authorities=lambda: "old"))
    assert same.kids == {"k1"}
    assert same.feed.view.last_good is not None
    assert same.feed.view.last_good.authorities == "old"


def change(file: Path, **members: Any) -> None:  # noqa: ANN401 - JSON
    """Change members of a cache file."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **members}))


def make_instead(file: Path, make: Callable[[Path], None]) -> None:
    """Move the file away, and make something else in its place."""
    file.rename(file.with_name("moved"))
    make(file)


SPOILED: dict[str, Callable[[Path], object]] = {
    "of the future": lambda file: change(file, fetched_at=FakeClock().time() + 3600),
    "too old": lambda file: change(file, fetched_at=FakeClock().time() - DAY),
    "no time": lambda file: change(file, fetched_at=None),
    "time is true": lambda file: change(file, fetched_at=True),
    "another format": lambda file: change(file, format=2),
    "foreign": lambda file: change(file, binding="b2"),
    "no document": lambda file: change(file, document=None),
    "bad document": lambda file: change(file, document='{"keys": []}'),
    "empty": lambda file: file.write_bytes(b""),
    "torn": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "not JSON": lambda file: file.write_bytes(b"\xff\x00"),
    "huge": lambda file: file.write_bytes(file.read_bytes() + b" " * 3_000_000),
    "readable by others": lambda file: file.chmod(0o644),
    "a folder": lambda file: make_instead(file, Path.mkdir),
    "a pipe": lambda file: make_instead(file, os.mkfifo),
    "a link": lambda file: make_instead(file, lambda path: path.symlink_to(path.with_name("moved"))),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_spoiled_file_is_ignored(
    spoil: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with the file, the feed says so and goes on without it."""
    before = Rig(cache=in_folder(tmp_path))
    before.run()
    spoil(tmp_path / "a.json")
    after = restarted(before, in_folder(tmp_path))
    assert after.published == []
    assert "cached keys of a ignored" in caplog.text
    after.site.at[JWKS] = publish(K1)
    after.run()
    assert after.kids == {"k1"}


def test_no_file_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first start of all says nothing of the cache."""
    rig = Rig(cache=in_folder(tmp_path))
    rig.feed.restore()
    assert rig.published == []
    assert caplog.text == ""


def test_blocked_key_does_not_return_from_the_cache(tmp_path: Path) -> None:
    """The file holds the document as it was published; blocking is checked again."""
    before = Rig(cache=in_folder(tmp_path))
    before.site.at[JWKS] = publish(K1, K2)
    before.run()
    after = Rig(cache=in_folder(tmp_path), blocked=("k1",))
    after.feed.restore()
    assert after.kids == {"k2"}


def test_failing_disk_fails_no_refresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the file cannot be written, it is said once, and keys are served."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    rig = Rig(cache=in_folder(blocked))
    rig.run(3600)
    assert rig.kids == {"k1"}
    assert caplog.text.count("cannot be cached") == 1
