"""Proves that a device or service that cannot be opened is tried again, and less and less often."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from authz.config.signing import KeyKind, SigningKey
from authz.facts.breaker import MAX_BACKOFF
from authz.signing.local import LocalSigner
from authz.signing.port import Failure, Signer, SigningUnavailable
from authz.signing.sources import KeySources

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
