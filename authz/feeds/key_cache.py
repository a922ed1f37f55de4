"""A disk cache of the last good document of one issuer: keys survive a restart while the issuer is down.

Rules of this file:
1. A file is written atomically, and only its owner can read it.
2. It is used only with the same issuer, URLs, allowed hosts and networks, CA and insecure.http: all of these are in its
   fingerprint, the CA as it was when the document was fetched.
3. Its age is measured from the fetch by the wall clock, the only clock that survives a restart. A time in the future is
   rejected, as is one that is too long ago.
4. If the file cannot be used, the feed works without it.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.core.strictjson import parse_object
from authz.files.replace import replace_file
from authz.telemetry.redaction import printable

log = logging.getLogger(__name__)

_FORMAT: Final = 1
_MAX_OVERHEAD_BYTES: Final = 4096  # of a file besides the document
_MAX_ESCAPE: Final = 6  # a byte takes at most six bytes in JSON (\u0000)


@dataclass(frozen=True, slots=True)
class CachedDocument:
    """A *document* that was fetched *age* seconds ago, at *fetched_at* (Unix time), under *authorities*."""

    document: bytes
    fetched_at: float
    age: float
    authorities: str = ""


class KeyCache:
    """Caches the document of the issuer configured as *name* in *folder*.

    *authorities* returns the digest of the CAs that are trusted now. *fingerprint* returns the digest of all trust
    settings, for such a CA digest.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        fingerprint: Callable[[str], str],
        authorities: Callable[[], str],
        max_age: float,
        max_bytes: int,
        now: Callable[[], float],
    ) -> None:
        self._folder: Final = folder
        self._name: Final = name
        self._path: Final = folder / f"{name}.json"
        self._fingerprint: Final = fingerprint
        self._authorities: Final = authorities
        self._max_age: Final = max_age
        self._max_bytes: Final = max_bytes * _MAX_ESCAPE + _MAX_OVERHEAD_BYTES
        self._now: Final = now
        self._warned = False

    def load(self) -> CachedDocument | None:
        """Return the cached document; None if there is none or, with a log line, if it must not be used."""
        try:
            cached = self._read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("cached keys of %s ignored: %s: %s", self._name, self._path, printable(str(error)))
            return None
        log.info("cached keys of %s found, fetched %.0f s ago", self._name, cached.age)
        return cached

    def save(self, document: bytes, fetched_at: float, authorities: str) -> None:
        """Write *document* to the cache. Of consecutive failures only the first is logged."""
        content = {
            "format": _FORMAT,
            "binding": self._fingerprint(authorities),
            "fetched_at": fetched_at,
            "document": document.decode("utf-8", "strict"),
        }
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path, [json.dumps(content).encode()])
        except OSError as error:
            if not self._warned:
                log.warning("keys of %s cannot be cached: %s: %s", self._name, self._path, error.strerror)
            self._warned = True
        else:
            self._warned = False

    def _read(self) -> CachedDocument:
        """Read and check the file. Raises OSError, ValueError."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise ValueError("is not a regular file that only this user can read")
            data = file.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise ValueError("is too large")
        content = parse_object(data, max_containers=self._max_bytes)  # the document itself is checked by its reader
        authorities = self._authorities()
        if content.get("format") != _FORMAT or content.get("binding") != self._fingerprint(authorities):
            raise ValueError("is of another configuration: issuer, URLs, hosts, networks, CA or insecure.http")
        document, fetched_at = content.get("document"), content.get("fetched_at")
        if not isinstance(document, str) or not isinstance(fetched_at, int | float) or isinstance(fetched_at, bool):
            raise ValueError("has no document, or no time")  # noqa: TRY004 - bad data
        age = self._now() - fetched_at
        if age < 0:
            raise ValueError(f"was fetched {-age:.0f} s in the future; one of the clocks was wrong")
        if age >= self._max_age:
            raise ValueError(f"was fetched {age:.0f} s ago, more than fetch.max_stale")
        return CachedDocument(document.encode(), fetched_at, age, authorities)
