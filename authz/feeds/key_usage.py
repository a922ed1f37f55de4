"""When each key last verified a signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from authz.core.keys import Key, Verified, VerifySignature
from authz.core.token import UnverifiedToken


class KeyUsage:
    """The time of each key's last use, in Unix time, by configured issuer and thumbprint.

    Recording reads the clock and stores into a dict, which needs no lock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now: Final = now
        self._last: Final[dict[tuple[str, str], float]] = {}

    def record_use(self, verify: VerifySignature) -> VerifySignature:
        """Return a function that calls *verify* and records each success."""
        now, last = self._now, self._last

        def verify_and_record(issuer: str, keys: tuple[Key, ...], token: UnverifiedToken) -> tuple[Key, Verified]:
            key, verified = verify(issuer, keys, token)
            last[issuer, key.thumbprint] = now()
            return key, verified

        return verify_and_record

    def last_used(self, issuer: str, key: Key) -> float | None:
        """Return when *key* of *issuer* last verified a signature."""
        return self._last.get((issuer, key.thumbprint))

    def retain_only(self, issuer: str, keys: Iterable[Key]) -> None:
        """Remove the keys of *issuer* that are not in *keys*, so that old keys do not accumulate."""
        current = {key.thumbprint for key in keys}
        for name, thumbprint in list(self._last):
            if name == issuer and thumbprint not in current:
                self._last.pop((name, thumbprint), None)
