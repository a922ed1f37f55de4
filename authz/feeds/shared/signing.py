"""Keeps the signing keys in the shared state, encrypted, the same for all replicas.

Rules of this file:
1. A change is made to what is in the shared state at that moment: if another replica was faster, it is made again.
2. What this process knows is joined with what it reads: a server that lost its last changes, or everything, gets them
   back. Nothing that a server forgets or repeats makes a key sign earlier, or brings back one that was withdrawn.
3. A value that cannot be decrypted is not ours: it is neither used nor replaced, and the keys in use stay.
4. No command is waited for longer than the timeout of the shared state, and only on the thread of the keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from authz.feeds.shared.state import SharedState, SharedStateError
from authz.signing.sealing import Sealer
from authz.signing.state import MAX_STATE_BYTES, Change, SigningState, StateError, parse_state, write_state

NAME: Final = "signing"
_MAX_TRIES: Final = 5  # of one change, while other replicas change the state


class SharedStore:
    """The state of the signing keys in *shared*, encrypted by the secret in the file *secret_file*."""

    def __init__(self, shared: SharedState, secret_file: Path) -> None:
        self._shared: Final = shared
        self._sealer: Final = Sealer(secret_file)
        self._key: Final = shared.key(NAME)
        self._known = SigningState()  # what this process read or wrote last
        self._parsed: tuple[bytes, SigningState] = b"", SigningState()

    def read(self) -> SigningState:
        """Return the state as it is now. Raises StateError."""
        return self._parse(self._fetch())[0].merged_with(self._known)

    def change(self, change: Change) -> SigningState:
        """Replace the state by what *change* makes of it. Raises StateError."""
        for _ in range(_MAX_TRIES):
            stored = self._fetch()
            before, is_current = self._parse(stored)
            after = change(before.merged_with(self._known))
            if (is_current and after.ring == before.ring) or self._replace(stored, after):
                self._known = after
                return after
        raise StateError(f"{self._key}: other replicas change it all the time")

    def _fetch(self) -> bytes:
        """Return the value, empty if there is none. Raises StateError."""
        try:
            stored = self._shared.execute("GETRANGE", self._key, 0, MAX_STATE_BYTES)
        except SharedStateError as error:
            raise StateError(f"{error.result}: {error}") from None
        if not isinstance(stored, bytes) or len(stored) > MAX_STATE_BYTES:
            raise StateError(f"{self._key}: more than {MAX_STATE_BYTES} bytes")
        return stored

    def _parse(self, stored: bytes) -> tuple[SigningState, bool]:
        """Return the state, and whether it was encrypted by the present secret. Raises StateError."""
        if not stored:
            return SigningState(), False
        try:
            text, is_current = self._sealer.open(stored, self._key)  # also if nothing changed: the secret may have
        except OSError as error:
            raise _unreadable(error) from None
        except ValueError as error:
            why = f"{self._key} in the shared state: {error} (signing.rotation.shared_secret_file); "
            raise StateError(why + "if it is of no use, delete it: replicas write what they know") from None
        if stored != self._parsed[0]:
            self._parsed = stored, self._read_text(text)
        return self._parsed[1], is_current

    def _read_text(self, text: bytes) -> SigningState:
        """Raises StateError."""
        try:
            return parse_state(text)
        except (ValueError, KeyError, TypeError, AttributeError):  # their text may quote it
            raise StateError(f"{self._key} in the shared state: has another version") from None

    def _replace(self, stored: bytes, after: SigningState) -> bool:
        """Write *after* if the value is still what was *stored*; return whether it was. Raises StateError."""
        try:
            return self._shared.replace(self._key, stored, self._sealer.seal(write_state(after), self._key))
        except SharedStateError as error:
            raise StateError(f"{error.result}: {error}") from None
        except OSError as error:
            raise _unreadable(error) from None
        except ValueError as error:
            raise StateError(f"signing.rotation.shared_secret_file: {error}") from None


def _unreadable(error: OSError) -> StateError:
    return StateError(f"signing.rotation.shared_secret_file {error.filename}: {error.strerror}")
