"""Proves authz.runtime.handover: what a worker is given, and which configuration counts as the last good one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from authz.config.model import Server
from authz.files.stamp import FileStamp
from authz.files.watch import FileWatch
from authz.runtime.checking import check
from authz.runtime.handover import Handover, LastGood, Source
from authz.runtime.loaded import CheckFailedError, pack
from tests.tools import ROOT

GOOD = (ROOT / "tests/data/config.yaml").read_text()
LOADED = check(GOOD, file="authz.yaml")
PACKED = pack(LOADED)
SERVER = Server.model_validate(
    {
        "listen": "0.0.0.0:9191",
        "tls": {"cert_file": "tls.crt", "key_file": "tls.key", "client_ca_file": "ca.crt"},
        "drain": "1500ms",
        "workers": 2,
    }
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file that is good."""
    made = tmp_path / "authz.yaml"
    made.write_text(GOOD)
    return made


def test_a_worker_gets_what_it_was_given(file: Path) -> None:
    """Whole, however long, and again for the next one; nothing is left open."""
    long = Source(PACKED + bytes(1_000_000), FileStamp.of(file))
    for source in (long, Source(PACKED, None)):
        given = Handover(source, SERVER)
        descriptor = given.to_descriptor()
        assert not os.get_inheritable(descriptor)
        assert Handover.from_descriptor(descriptor) == given
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(descriptor)


def test_a_worker_has_the_server_section_of_its_supervisor(file: Path) -> None:
    """And all else as the text says."""
    config = Handover(Source(PACKED, FileStamp.of(file)), SERVER).load().config
    assert config.server == SERVER
    assert config.rules == LOADED.config.rules


def test_a_worker_refuses_what_is_no_handover() -> None:
    """It starts with what its supervisor has checked, or not at all."""
    descriptor = os.memfd_create("other")
    os.write(descriptor, pickle.dumps(LOADED))
    os.lseek(descriptor, 0, os.SEEK_SET)
    with pytest.raises(CheckFailedError):
        Handover.from_descriptor(descriptor)


def test_what_was_good_last_stays(file: Path) -> None:
    """A file that is broken, no text, or gone changes nothing; the next good one does."""
    watch = FileWatch(file)
    first = Source.read(file, watch)
    last_good = LastGood(file, watch, first)
    for bad in (b"version: 2\n", b"\xff", b"- [", b""):
        file.write_bytes(bad)
        watch.changed(force=True)
        last_good.update()
        assert last_good.source == first
    file.unlink()
    watch.changed(force=True)
    last_good.update()
    assert last_good.source == first
    file.write_text(GOOD + "# changed\n")
    watch.changed(force=True)
    last_good.update()
    assert (last_good.source.load(), last_good.source.stamp) == (LOADED, FileStamp.of(file))
    assert last_good.source.stamp != first.stamp


def test_the_stamp_is_of_before_the_content(file: Path) -> None:
    """A file that is replaced between the look and the read is another one at the next look."""
    watch = FileWatch(file)
    before = FileStamp.of(file)
    file.write_text(GOOD.replace("realm: api", "realm: replaced"))
    source = Source.read(file, watch)
    assert (source.load().config.responses.realm, source.stamp) == ("replaced", before)
    worker = FileWatch(file, known=source.stamp)
    assert [worker.changed() for _ in range(2)] == [False, True]
