"""Keys in hardware security modules, by PKCS#11: one session for each token of a library.

Rules of this file:
1. The package `pkcs11` initializes libraries for one thread (C_Initialize without arguments), and a call has no
   timeout. So each library has a thread that makes all calls; who waits for one has a timeout (`serial_calls.py`).
2. A PIN that the token rejected is never tried again, because a few attempts lock a token for good. When the content of
   the file changes, the new PIN is tried.
3. A session may end at any time: the token was removed, the device restarted. Then the library is initialized again,
   once in a call, and the key is looked up again. If another key is found, it is not used.
4. Logging out ends the login of all sessions of a token, so only closing the last key of a token does it.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from authz.signing.checked import CheckedSigner
from authz.signing.hsm_objects import read_attribute, read_public_key, signing_function
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey
from authz.signing.serial_calls import SerialCalls

if TYPE_CHECKING:
    import pkcs11

_T = TypeVar("_T")

MAX_PIN_BYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmKey:
    """How a key is reached: in the *token* of the library *module*, with the label *key* and perhaps the id *key_id*.

    *timeout* is in seconds.
    """

    module: str
    token: str
    pin_file: str
    key: str
    key_id: bytes | None = None
    algorithm: str | None = None
    kid: str | None = None
    timeout: float = 2.0


def open_hsm_key(settings: HsmKey) -> CheckedSigner:
    """Log in to the token, and return the signer of its key. Raises SigningUnavailable."""
    library = _library(settings.module)
    key = _Key(settings, library)

    def read() -> object:
        library.users[settings.token] += 1
        try:
            return key.call(read_public_key)
        except BaseException:
            library.release(settings.token)
            raise

    # A login may take longer than a signature may: the thread that opens keys has time (authz.signing.sources).
    public = library.calls.run(read, seconds=settings.timeout, until_end=True)
    key.expected = PublicKey.of(public, settings.algorithm)
    return CheckedSigner(key, key.expected, kid=settings.kid)


class _Key:
    """One private key of a token; *expected* is its public half once it is known."""

    def __init__(self, settings: HsmKey, library: _Library) -> None:
        self._settings: Final = settings
        self._library: Final = library
        self._found: tuple[pkcs11.Session, pkcs11.SignMixin] | None = None
        self.expected: PublicKey | None = None

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*. Raises SigningUnavailable."""
        if self.expected is None:
            raise SigningUnavailable("the key was not opened")
        write = signing_function(self.expected.algorithm)
        return self._library.calls.run(
            lambda: self.call(lambda _, key: write(key, message)), seconds=self._settings.timeout
        )

    def close(self) -> None:
        """Log out if this is the last key of the token; do nothing if the library hangs, or is busy for too long."""
        calls = self._library.calls
        if not calls.is_stuck:
            with suppress(SigningUnavailable):
                calls.run(lambda: self._library.release(self._settings.token), seconds=self._settings.timeout)

    def call(self, use: Callable[[pkcs11.Session, pkcs11.SignMixin], _T]) -> _T:
        """Return the result of *use* on the session and the key; repeat it once if the session has ended (rule 3).

        Only for the thread of the library. Raises SigningUnavailable.
        """
        from pkcs11 import exceptions  # noqa: PLC0415 - an optional package

        try:
            try:
                return use(*self._find())
            except _ended_session_errors():
                self._library.reinitialize()
                return use(*self._find())
        except exceptions.PKCS11Error as error:
            self._library.reinitialize_later()
            raise SigningUnavailable(f"{self._name}: {_describe(error)}", _classify(error)) from None

    @property
    def _name(self) -> str:
        return f"key {self._settings.key!r} of token {self._settings.token!r}"

    def _find(self) -> tuple[pkcs11.Session, pkcs11.SignMixin]:
        """Return the session and the key in it. Raises PKCS11Error, SigningUnavailable."""
        session = self._library.log_in(self._settings.token, self._settings.pin_file)
        if self._found is None or self._found[0] is not session:
            key = self._look_up(session)
            if self.expected is not None:
                now = PublicKey.of(read_public_key(session, key), self.expected.algorithm)
                if now != self.expected:
                    text = f"{self._name} is another one than before: reload the configuration to use it"
                    raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
            self._found = session, key
        return self._found

    def _look_up(self, session: pkcs11.Session) -> pkcs11.SignMixin:
        from pkcs11 import Attribute, ObjectClass, SignMixin  # noqa: PLC0415 - as above

        wanted: dict[Attribute, object] = {
            Attribute.CLASS: ObjectClass.PRIVATE_KEY,
            Attribute.LABEL: self._settings.key,
        }
        if self._settings.key_id is not None:
            wanted[Attribute.ID] = self._settings.key_id
        objects = list(session.get_objects(wanted))
        if len(objects) != 1:
            text = f"{self._name}: " + ("several have this label: give key_id" if objects else "there is none")
            raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
        [key] = objects
        if not isinstance(key, SignMixin):
            raise SigningUnavailable(f"{self._name} is not for signing (CKA_SIGN)", Failure.KEY_UNUSABLE)
        if read_attribute(key, Attribute.ALWAYS_AUTHENTICATE) is True:
            text = f"{self._name} asks for the PIN for each signature (CKA_ALWAYS_AUTHENTICATE)"
            raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
        return key


@dataclass(slots=True, eq=False)
class _Library:
    """A PKCS#11 library in this process, whose methods only *calls* may run.

    *users* counts the open keys of each token, *sessions* are logged in, *rejected* are digests of rejected PINs.
    """

    path: str
    calls: SerialCalls
    users: Counter[str] = field(default_factory=Counter)
    sessions: dict[str, pkcs11.Session] = field(default_factory=dict)
    rejected: dict[str, bytes] = field(default_factory=dict, repr=False)
    must_reinitialize: bool = False

    def log_in(self, token: str, pin_file: str) -> pkcs11.Session:
        """Return the session of *token*. Raises PKCS11Error, SigningUnavailable."""
        from pkcs11 import exceptions  # noqa: PLC0415 - as above

        if self.must_reinitialize:
            self.reinitialize()
        session = self.sessions.get(token)
        if session is None:
            pin = _read_pin(pin_file)
            digest = sha256(_SALT + pin.encode()).digest()
            if self.rejected.get(token) == digest:
                text = f"token {token!r} rejected the PIN in {pin_file}; it is not tried again until the file changes"
                raise SigningUnavailable(text, Failure.UNAUTHORIZED)
            try:
                session = self._find_token(token).open(user_pin=pin)
            except (
                exceptions.PinIncorrect,
                exceptions.PinInvalid,
                exceptions.PinLocked,
                exceptions.PinLenRange,
            ) as error:
                self.rejected[token] = digest
                text = f"token {token!r} rejects the PIN in {pin_file}: {type(error).__name__}"
                raise SigningUnavailable(text, Failure.UNAUTHORIZED) from None
            self.rejected.pop(token, None)
            self.sessions[token] = session
        return session

    def release(self, token: str) -> None:
        """Remove one user of *token*; log out if it was the last one."""
        self.users[token] -= 1
        if self.users[token] <= 0:
            del self.users[token]
            session = self.sessions.pop(token, None)
            if session is not None:
                with suppress(Exception):  # it may have ended, with its token
                    session.close()

    def reinitialize(self) -> None:
        """Initialize the library again: only this detects inserted and removed tokens. Raises PKCS11Error."""
        self.sessions.clear()
        self.must_reinitialize = True
        self._load().reinitialize()
        self.must_reinitialize = False

    def reinitialize_later(self) -> None:
        """Initialize the library again before it is used the next time."""
        self.must_reinitialize = True

    def _find_token(self, label: str) -> pkcs11.Token:
        """Raises PKCS11Error, SigningUnavailable."""
        from pkcs11 import exceptions  # noqa: PLC0415 - as above

        tokens: list[pkcs11.Token] = []
        for slot in self._load().get_slots(token_present=True):
            with suppress(exceptions.PKCS11Error):  # the token of another slot may be broken
                token = slot.get_token()
                if token.label == label:
                    tokens.append(token)
        if not tokens:
            raise exceptions.NoSuchToken
        if len(tokens) > 1:
            raise SigningUnavailable(f"several tokens have the label {label!r}", Failure.KEY_UNUSABLE)
        return tokens[0]

    def _load(self) -> Any:  # noqa: ANN401 - a class of a compiled module
        import pkcs11  # noqa: PLC0415 - as above

        if not Path(self.path).is_file():
            raise SigningUnavailable(f"module {self.path}: no such file", Failure.MISCONFIGURED)
        return pkcs11.lib(self.path)


_SALT: Final = secrets.token_bytes(16)
_libraries: Final[dict[str, _Library]] = {}
_libraries_lock: Final = Lock()


def _library(path: str) -> _Library:
    """Return the library at *path*, of which a process has one instance. Raises SigningUnavailable."""
    try:
        import pkcs11  # noqa: F401, PLC0415 - as above
    except ImportError:
        text = 'kind pkcs11 needs the extra pkcs11: pip install ".[pkcs11]"'
        raise SigningUnavailable(text, Failure.MISCONFIGURED) from None
    resolved = str(Path(path).resolve())
    with _libraries_lock:
        return _libraries.setdefault(resolved, _Library(resolved, SerialCalls(resolved)))


def _read_pin(file: str) -> str:
    """Raises SigningUnavailable, without the content."""
    try:
        with Path(file).open("rb") as opened:
            octets = opened.read(MAX_PIN_BYTES + 1)
    except OSError as error:
        raise SigningUnavailable(f"pin_file {file}: {error.strerror}", Failure.MISCONFIGURED) from None
    with suppress(UnicodeDecodeError):
        pin = octets.decode().rstrip("\r\n")
        if pin and len(octets) <= MAX_PIN_BYTES:
            return pin
    raise SigningUnavailable(f"pin_file {file}: is empty, too long or no text", Failure.MISCONFIGURED)


def _ended_session_errors() -> tuple[type[Exception], ...]:
    """Return what PKCS#11 raises if a session has ended, or if a token was removed and came back."""
    from pkcs11 import exceptions as errors  # noqa: PLC0415 - as above

    return (
        errors.DeviceError,
        errors.DeviceRemoved,
        errors.GeneralError,
        errors.KeyHandleInvalid,
        errors.NoSuchToken,
        errors.ObjectHandleInvalid,
        errors.SessionClosed,
        errors.SessionHandleInvalid,
        errors.SlotIDInvalid,
        errors.TokenNotPresent,
        errors.UserAlreadyLoggedIn,
        errors.UserNotLoggedIn,
    )


def _classify(error: Exception) -> Failure:
    from pkcs11 import exceptions as errors  # noqa: PLC0415 - as above

    match error:
        case errors.NoSuchToken() | errors.TokenNotPresent() | errors.DeviceRemoved() | errors.TokenNotRecognised():
            return Failure.UNREACHABLE
        case errors.PinExpired() | errors.UserNotLoggedIn() | errors.UserPinNotInitialized():
            return Failure.UNAUTHORIZED
        case (
            errors.KeyTypeInconsistent()
            | errors.MechanismInvalid()
            | errors.KeySizeRange()
            | errors.MechanismParamInvalid()
        ):
            return Failure.KEY_UNUSABLE
        case _:
            return Failure.FAILED


def _describe(error: Exception) -> str:
    from pkcs11 import exceptions as errors  # noqa: PLC0415 - as above

    match error:
        case errors.NoSuchToken():
            return "there is no token with this label"
        case errors.MechanismInvalid():
            return "the token has no mechanism for this algorithm"
        case _:
            return type(error).__name__  # its text, if any, is the library's
