"""The keys that the sidecar generates, and their phases: in memory, or in a file that processes share.

Rules of this file:
1. A change is made under a lock that all processes take, to the current content of the file, and replaces the file
   atomically. Readers take no lock.
2. The file has private keys: only its owner may read it. Retired keys are in it without their private part.
3. A file that cannot be read or parsed changes nothing: the current keys stay in use.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from authz.core.strictjson import parse_object
from authz.files.replace import replace_file
from authz.files.stamp import FileStamp
from authz.signing.local import LocalSigner
from authz.signing.rotation import Phase, Ring, RingKey, merge

VERSION: Final = 1
MAX_STATE_BYTES: Final = 1024 * 1024


class StateError(Exception):
    """Raised for a state that cannot be read or written; the text has no secrets."""


@dataclass(frozen=True, slots=True)
class SigningState:
    """The *ring*, the *signers* of keys that may sign, and the public JWKs of all keys, each by key id."""

    ring: Ring = field(default_factory=Ring)
    signers: Mapping[str, LocalSigner] = field(default_factory=dict)
    public: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def with_ring(self, ring: Ring) -> SigningState:
        """Return the state with another ring, without the private parts of retired keys."""
        kids = {key.kid for key in ring.keys}
        retired = {key.kid for key in ring.keys if key.phase is Phase.RETIRED}
        return SigningState(
            ring,
            {kid: signer for kid, signer in self.signers.items() if kid in kids - retired},
            {kid: jwk for kid, jwk in self.public.items() if kid in kids},
        )

    def with_key(self, signer: LocalSigner) -> SigningState:
        """Return the state with a new key, which is not in the ring yet."""
        public = {**self.public, signer.kid: signer.public_jwk()}
        return SigningState(self.ring, {**self.signers, signer.kid: signer}, public)

    def merged_with(self, known: SigningState) -> SigningState:
        """Return the state, as it was read, merged with what this process has *known* before."""
        ring = merge(self.ring, known.ring)
        signers, public = {**self.signers, **known.signers}, {**self.public, **known.public}
        order = [key.kid for key in ring.keys]
        state = SigningState(
            ring,
            {kid: signers[kid] for kid in order if kid in signers},
            {kid: public[kid] for kid in order},
        )
        return state.with_ring(ring)


Change = Callable[[SigningState], SigningState]


class StateStore(Protocol):
    """A store for the state."""

    def read(self) -> SigningState:
        """Return the state as it is now. Raises StateError."""

    def change(self, change: Change) -> SigningState:
        """Replace the state by the result of *change*, and return that. Raises StateError.

        *change* may be called several times, if others change the state meanwhile.
        """


class MemoryStore:
    """Keeps the state in this process."""

    def __init__(self) -> None:
        self._state = SigningState()

    def read(self) -> SigningState:
        """Return the state."""
        return self._state

    def change(self, change: Change) -> SigningState:
        """Change the state."""
        self._state = change(self._state)
        return self._state


class FileStore:
    """Keeps the state in a file; a process that only follows never writes it."""

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        self._path: Final = path
        self._follow: Final = follow
        self._stamp: FileStamp | None = None
        self._last = SigningState()

    def read(self) -> SigningState:
        """Return what is in the file; read it only if it has changed. Raises StateError."""
        stamp = FileStamp.of_any(self._path)
        if stamp is None:
            if self._follow:
                raise StateError(f"{self._path}: not there; `authz signing rotate` writes it")
            return SigningState()
        if stamp != self._stamp:
            self._last = read_state(self._path)
            self._stamp = stamp
        return self._last

    def change(self, change: Change) -> SigningState:
        """Change the file under the lock. Raises StateError."""
        if self._follow:
            return self.read()
        try:
            with _locked(self._path):
                before = self.read()
                after = change(before)
                if after.ring != before.ring:
                    self._stamp = replace_file(self._path, [write_state(after)])
                    self._last = after
                return after
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from None


def read_state(path: Path) -> SigningState:
    """Read a state file. Raises StateError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_STATE_BYTES + 1)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_STATE_BYTES:
        raise StateError(f"{path}: more than {MAX_STATE_BYTES} bytes")
    try:
        return parse_state(data)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Messages of the parsers may quote the file.
        raise StateError(f"{path}: not a state file of this version") from None


def parse_state(data: bytes) -> SigningState:
    """Parse a state. Raises ValueError, KeyError, TypeError or AttributeError."""
    document: dict[str, Any] = parse_object(data)
    if document["version"] != VERSION:
        raise ValueError("another version")
    keys: list[RingKey] = []
    signers: dict[str, LocalSigner] = {}
    public: dict[str, Mapping[str, object]] = {}
    for members in document["keys"]:
        jwk: dict[str, Any] = members["jwk"]
        kid = str(jwk["kid"])
        times = _time(members, "started"), _time(members, "stopped")
        key = RingKey(kid, float(members["published"]), *times, restored=int(members["restored"]))
        keys.append(key)
        if key.phase is Phase.RETIRED:
            public[kid] = {name: value for name, value in jwk.items() if name in _PUBLIC}
        else:
            signers[kid] = LocalSigner.read(json.dumps(jwk).encode())
            public[kid] = signers[kid].public_jwk()
    withdrawn, ended = (tuple(str(kid) for kid in document[name]) for name in ("withdrawn", "ended"))
    return SigningState(Ring(tuple(keys), withdrawn, ended), signers, public)


_PUBLIC: Final = frozenset({"kty", "crv", "x", "y", "n", "e", "pub", "kid", "alg", "use"})


def write_state(state: SigningState) -> bytes:
    """Return the content of a state file."""
    keys = [
        {
            "published": key.published,
            "started": key.started,
            "stopped": key.stopped,
            "restored": key.restored,
            "jwk": state.public[key.kid] if key.phase is Phase.RETIRED else state.signers[key.kid].export_private(),
        }
        for key in state.ring.keys
    ]
    ring = state.ring
    document = {"version": VERSION, "keys": keys, "withdrawn": list(ring.withdrawn), "ended": list(ring.ended)}
    return json.dumps(document, indent=1).encode() + b"\n"


def _time(members: Mapping[str, Any], name: str) -> float | None:
    value = members[name]
    return None if value is None else float(value)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of *path*: of a file beside it, because the file itself is replaced. Raises OSError."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
