"""When each key last verified a signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from authz.core.keys import Key, Verified, VerifySignature
from authz.core.token import UnverifiedToken


class Usage:
    """Times of last use, in seconds since the epoch, by configured issuer and thumbprint.

    A record costs one look at the clock and one store into a dict, which needs no lock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now: Final = now
        self._last: Final[dict[tuple[str, str], float]] = {}

    def record_use(self, verify: VerifySignature) -> VerifySignature:
        """Return *verify* with each success recorded."""
        now, last = self._now, self._last

        def verify_and_record(issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
            key, verified = verify(issuer, keys, token)
            last[issuer, key.thumbprint] = now()
            return key, verified

        return verify_and_record

    def last_used(self, issuer: str, key: Key) -> float | None:
        """Return when *key* of *issuer* last verified a signature."""
        return self._last.get((issuer, key.thumbprint))

    def forget_all_but(self, issuer: str, keys: Iterable[Key]) -> None:
        """Forget the keys of *issuer* that are not among *keys*, so that rotations do not add up."""
        kept = {key.thumbprint for key in keys}
        for name, thumbprint in list(self._last):
            if name == issuer and thumbprint not in kept:
                self._last.pop((name, thumbprint), None)
