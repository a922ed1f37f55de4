"""Proves that a device or service that cannot be opened is tried again, and less and less often."""

from __future__ import annotations

from itertools import pairwise
from threading import Event
from typing import Final

import pytest

from authz.config.signing import KeyKind, SigningKey
from authz.facts.breaker import MAX_BACKOFF
from authz.signing.local import LocalSigner
from authz.signing.port import Failure, Signer, SigningUnavailable
from authz.signing.sources import KeySources
from tests.fakes.waiting import HANG_SECONDS, wait_until

AWAY: Final = SigningKey(kind=KeyKind.AWS_KMS, key="alias/a")
OTHER: Final = SigningKey(kind=KeyKind.AWS_KMS, key="alias/b")
GONE: Final = SigningKey(kind=KeyKind.FILE, file="/no/key.pem")


class _Services:
    """Opens keys, or does not; counts attempts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.down = True
        self.tried: list[SigningKey] = []

    def open(self, section: SigningKey) -> Signer:
        self.tried.append(section)
        if self.down:
            raise SigningUnavailable("away", Failure.UNREACHABLE)
        return LocalSigner.generate("ES256")


def test_pauses_grow_to_a_bound() -> None:
    """A key is looked at every second, and its service is asked less and less often, down to twice a minute."""
    services = _Services()
    sources = KeySources(lambda: services.now, services.open)
    at: list[float] = []
    for second in range(300):
        services.now = float(second)
        before = len(services.tried)
        assert sources.read({"main": AWAY}) == {}
        at += [services.now] * (len(services.tried) - before)
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert pauses[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert set(pauses[5:]) == {MAX_BACKOFF}
    services.down = False
    services.now += MAX_BACKOFF
    assert len(sources.read({"main": AWAY})) == 1


class _Hangs:
    """A device that opens no key until it is let go; counts attempts, and what was closed."""

    def __init__(self) -> None:
        self.go = Event()
        self.tried: list[SigningKey] = []
        self.closed: list[SigningKey] = []

    def open(self, section: SigningKey) -> Signer:
        if not section.is_remote:
            raise SigningUnavailable("no such file", Failure.MISCONFIGURED)
        self.tried.append(section)
        assert self.go.wait(HANG_SECONDS)
        return _Closable(section, self.closed)


class _Closable:
    """A signer that notes when it is closed."""

    algorithm = "ES256"
    problem = ""

    def __init__(self, section: SigningKey, closed: list[SigningKey]) -> None:
        self.kid = section.key or ""
        self._section, self._closed = section, closed

    def public_jwk(self) -> dict[str, object]:
        return {"kid": self.kid}

    def sign(self, message: bytes) -> bytes:
        return message

    def close(self) -> None:
        self._closed.append(self._section)


def test_a_device_that_hangs_holds_up_no_other_key(caplog: pytest.LogCaptureFixture) -> None:
    """One thread waits for it; meanwhile the other keys are read, and when it answers, its key is there."""
    device = _Hangs()
    sources = KeySources(lambda: 0.0, device.open, open_seconds=0.0)
    disk = SigningKey(kind=KeyKind.FILE, file="/no/key.pem")
    for _ in range(3):
        assert sources.read({"hsm": AWAY, "disk": disk}) == {}
    assert device.tried == [AWAY]
    assert [record.getMessage() for record in caplog.records if "hsm" in record.getMessage()] == [
        "signing key hsm: the device or service has not opened it yet"
    ]
    device.go.set()
    wait_until(lambda: "alias/a" in sources.read({"hsm": AWAY}))
    assert device.tried == [AWAY]
    assert sources.remote["alias/a"].name == "hsm"


def test_what_opens_too_late_is_closed() -> None:
    """A key that is configured no more, or otherwise, when its device answers at last; or in a process that ends."""
    device = _Hangs()
    sources = KeySources(lambda: 0.0, device.open, open_seconds=0.0)
    sources.read({"one": AWAY, "two": OTHER})
    sources.read({"one": OTHER})
    sources.close()
    device.go.set()
    wait_until(lambda: len(device.closed) == 3)
    assert sorted(key.key or "" for key in device.closed) == ["alias/a", "alias/b", "alias/b"]


def test_what_is_configured_otherwise_is_tried_at_once() -> None:
    """Another key under the name is another service; and files cost nothing to look at."""
    services = _Services()
    sources = KeySources(lambda: services.now, services.open)
    for section in (AWAY, AWAY, OTHER, OTHER):
        sources.read({"main": section})
    assert services.tried == [AWAY, OTHER]
    for _ in range(3):
        sources.read({"disk": GONE})
    assert services.tried == [AWAY, OTHER, GONE, GONE, GONE]
