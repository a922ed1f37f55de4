"""Keys in hardware and its likes by PKCS#11: one session for each token of a library.

Rules of this file:
1. The package `pkcs11` initializes libraries for one thread (C_Initialize without arguments). So at most one thread
   calls a library at one time; others wait for their turn within their own timeout. A call itself has no timeout.
2. A PIN that the token rejected is never tried again: a few attempts lock a token for good. Another content of the
   file is tried.
3. A session may end at any time: the token was removed, the device restarted. Then the library is initialized again,
   once in a call, and the key is looked for again. If it is another key, it is not used.
4. Logging out ends the login of all sessions of a token: the last key of a token that is closed does it.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from authz.signing.checked import CheckedSigner
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import PublicKey, hash_of

if TYPE_CHECKING:
    import pkcs11

_T = TypeVar("_T")

MAX_PIN_BYTES: Final = 256
_OCTET_STRING: Final = 0x04
# RFC 8410 section 3, and the name that PKCS#11 2.40 has for the curve.
_EDWARDS25519: Final = (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519")
_CURVES: Final[Mapping[bytes, ec.EllipticCurve]] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
    bytes.fromhex("06052b81040023"): ec.SECP521R1(),
    bytes.fromhex("06052b8104000a"): ec.SECP256K1(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmKey:
    """Where a key is: in the *token* of the library *module*, with the label *key* and perhaps the id *key_id*.

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


def open_hsm_key(where: HsmKey) -> CheckedSigner:
    """Log in to the token, and return the signer of its key. Raises SigningUnavailable."""
    library = _library(where.module)
    with library.turn(where.timeout):
        library.users[where.token] += 1
        try:
            key = _Key(where, library)
            public = key.call(_read_public)
        except BaseException:
            library.release(where.token)
            raise
    key.expected = PublicKey.of(public, where.algorithm)
    return CheckedSigner(key, key.expected, kid=where.kid)


class _Key:
    """One private key of a token; *expected* is its public half once it is known."""

    def __init__(self, where: HsmKey, library: _Library) -> None:
        self._where: Final = where
        self._library: Final = library
        self._found: tuple[pkcs11.Session, pkcs11.SignMixin] | None = None
        self.expected: PublicKey | None = None

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*. Raises SigningUnavailable."""
        if self.expected is None:
            raise SigningUnavailable("the key was not opened")
        write = _signing(self.expected.algorithm)
        with self._library.turn(self._where.timeout):
            return self.call(lambda _, key: write(key, message))

    def close(self) -> None:
        """Log out with the last key of the token; a library that hangs is left alone."""
        with suppress(SigningUnavailable), self._library.turn(self._where.timeout):
            self._library.release(self._where.token)

    def call(self, use: Callable[[pkcs11.Session, pkcs11.SignMixin], _T]) -> _T:
        """Return what *use* does with the session and the key, once more if the session has ended (rule 3).

        The caller has the turn. Raises SigningUnavailable.
        """
        from pkcs11 import exceptions  # noqa: PLC0415 - an optional package

        try:
            try:
                return use(*self._find())
            except _lost():
                self._library.restart()
                return use(*self._find())
        except exceptions.PKCS11Error as error:
            self._library.restart_next()
            raise SigningUnavailable(f"{self._name}: {_describe(error)}", _classify(error)) from None

    @property
    def _name(self) -> str:
        return f"key {self._where.key!r} of token {self._where.token!r}"

    def _find(self) -> tuple[pkcs11.Session, pkcs11.SignMixin]:
        """Return the session and the key in it. Raises PKCS11Error, SigningUnavailable."""
        session = self._library.log_in(self._where.token, self._where.pin_file)
        if self._found is None or self._found[0] is not session:
            key = self._look_up(session)
            if self.expected is not None:
                now = PublicKey.of(_read_public(session, key), self.expected.algorithm)
                if now != self.expected:
                    text = f"{self._name} is another one than before: reload the configuration to use it"
                    raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
            self._found = session, key
        return self._found

    def _look_up(self, session: pkcs11.Session) -> pkcs11.SignMixin:
        from pkcs11 import Attribute, ObjectClass, SignMixin  # noqa: PLC0415 - as above

        wanted: dict[Attribute, object] = {
            Attribute.CLASS: ObjectClass.PRIVATE_KEY,
            Attribute.LABEL: self._where.key,
        }
        if self._where.key_id is not None:
            wanted[Attribute.ID] = self._where.key_id
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            text = f"{self._name}: " + ("several have this label: give key_id" if found else "there is none")
            raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
        [key] = found
        if not isinstance(key, SignMixin):
            raise SigningUnavailable(f"{self._name} is not for signing (CKA_SIGN)", Failure.KEY_UNUSABLE)
        if _read(key, Attribute.ALWAYS_AUTHENTICATE) is True:
            text = f"{self._name} asks for the PIN for each signature (CKA_ALWAYS_AUTHENTICATE)"
            raise SigningUnavailable(text, Failure.KEY_UNUSABLE)
        return key


@dataclass(slots=True, eq=False)
class _Library:
    """A library of PKCS#11 in this process, used by one thread at a time, which has *lock*.

    *users* counts the open keys of each token, *sessions* are logged in, *rejected* are digests of PINs.
    """

    path: str
    lock: Lock = field(default_factory=Lock)
    users: Counter[str] = field(default_factory=Counter)
    sessions: dict[str, pkcs11.Session] = field(default_factory=dict)
    rejected: dict[str, bytes] = field(default_factory=dict, repr=False)
    must_restart: bool = False

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Be the one who calls the library. Raises SigningUnavailable after *seconds*."""
        if not self.lock.acquire(timeout=seconds):
            raise SigningUnavailable(f"{self.path} is busy: no turn within {seconds:g} s", Failure.TIMEOUT)
        try:
            yield
        finally:
            self.lock.release()

    def log_in(self, token: str, pin_file: str) -> pkcs11.Session:
        """Return the session of *token*. Raises PKCS11Error, SigningUnavailable."""
        from pkcs11 import exceptions  # noqa: PLC0415 - as above

        if self.must_restart:
            self.restart()
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
        """Forget one user of *token*; the last one logs out."""
        self.users[token] -= 1
        if self.users[token] <= 0:
            del self.users[token]
            session = self.sessions.pop(token, None)
            if session is not None:
                with suppress(Exception):  # it may have ended, with its token
                    session.close()

    def restart(self) -> None:
        """Initialize the library again: tokens that came or went are seen only then. Raises PKCS11Error."""
        self.sessions.clear()
        self.must_restart = True
        self._load().reinitialize()
        self.must_restart = False

    def restart_next(self) -> None:
        """Initialize the library again before it is used the next time."""
        self.must_restart = True

    def _find_token(self, label: str) -> pkcs11.Token:
        """Raises PKCS11Error, SigningUnavailable."""
        from pkcs11 import exceptions  # noqa: PLC0415 - as above

        found: list[pkcs11.Token] = []
        for slot in self._load().get_slots(token_present=True):
            with suppress(exceptions.PKCS11Error):  # the token of another slot may be broken
                token = slot.get_token()
                if token.label == label:
                    found.append(token)
        if not found:
            raise exceptions.NoSuchToken
        if len(found) > 1:
            raise SigningUnavailable(f"several tokens have the label {label!r}", Failure.KEY_UNUSABLE)
        return found[0]

    def _load(self) -> Any:  # noqa: ANN401 - a class of a compiled module
        import pkcs11  # noqa: PLC0415 - as above

        if not Path(self.path).is_file():
            raise SigningUnavailable(f"module {self.path}: no such file", Failure.MISCONFIGURED)
        return pkcs11.lib(self.path)


_SALT: Final = secrets.token_bytes(16)
_libraries: Final[dict[str, _Library]] = {}
_libraries_lock: Final = Lock()


def _library(path: str) -> _Library:
    """Return the library at *path*, of which there is one in a process. Raises SigningUnavailable."""
    try:
        import pkcs11  # noqa: F401, PLC0415 - as above
    except ImportError:
        text = 'kind pkcs11 needs the extra pkcs11: pip install ".[pkcs11]"'
        raise SigningUnavailable(text, Failure.MISCONFIGURED) from None
    with _libraries_lock:
        return _libraries.setdefault(str(Path(path).resolve()), _Library(str(Path(path).resolve())))


def _signing(algorithm: str) -> Callable[[pkcs11.SignMixin, bytes], bytes]:
    from cryptography.hazmat.primitives.hashes import Hash  # noqa: PLC0415 - beside the next
    from pkcs11 import MGF, Mechanism  # noqa: PLC0415 - as above

    bits = algorithm[2:5]
    if algorithm.startswith("RS"):
        mechanism = Mechanism[f"SHA{bits}_RSA_PKCS"]
        return lambda key, message: key.sign(message, mechanism=mechanism)
    if algorithm.startswith("PS"):
        mechanism = Mechanism[f"SHA{bits}_RSA_PKCS_PSS"]
        salt = (Mechanism[f"SHA{bits}"], MGF[f"SHA{bits}"], int(bits) // 8)
        return lambda key, message: key.sign(message, mechanism=mechanism, mechanism_param=salt)
    if algorithm.startswith("ES"):

        def sign(key: pkcs11.SignMixin, message: bytes) -> bytes:
            hashed = Hash(hash_of(algorithm))  # here, because not every token hashes for ECDSA
            hashed.update(message)
            return key.sign(hashed.finalize(), mechanism=Mechanism.ECDSA)

        return sign
    return lambda key, message: key.sign(message, mechanism=Mechanism.EDDSA)


def _read_public(session: pkcs11.Session, private: pkcs11.SignMixin) -> object:
    """Return the public half of *private* as a key of `cryptography`. Raises PKCS11Error, SigningUnavailable."""
    from pkcs11 import Attribute, KeyType, ObjectClass  # noqa: PLC0415 - as above

    key_type = _read(private, Attribute.KEY_TYPE)
    if key_type is KeyType.RSA:  # the private key has the public members too
        modulus, exponent = _read(private, Attribute.MODULUS), _read(private, Attribute.PUBLIC_EXPONENT)
        if isinstance(modulus, bytes) and isinstance(exponent, bytes):
            number = int.from_bytes
            return rsa.RSAPublicNumbers(number(exponent, "big"), number(modulus, "big")).public_key()
    identity = _read(private, Attribute.ID)
    wanted: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.KEY_TYPE: key_type}
    wanted |= {Attribute.ID: identity} if identity else {Attribute.LABEL: _read(private, Attribute.LABEL)}
    for public in session.get_objects(wanted):
        params, point = _read(public, Attribute.EC_PARAMS), _read(public, Attribute.EC_POINT)
        if isinstance(params, bytes) and isinstance(point, bytes):
            return _read_point(params, point)
    raise SigningUnavailable("the token has no public key object of the key", Failure.KEY_UNUSABLE)


def _read_point(params: bytes, point: bytes) -> object:
    """Read a point, as an OCTET STRING (PKCS#11 2.40) or bare. Raises SigningUnavailable."""
    curve = _CURVES.get(params)
    for octets in (_unwrap(point), point):
        with suppress(ValueError):
            if curve is not None:
                return ec.EllipticCurvePublicKey.from_encoded_point(curve, octets)
            if params in _EDWARDS25519:
                return Ed25519PublicKey.from_public_bytes(octets)
    raise SigningUnavailable("the key is on a curve that signs no JWTs", Failure.KEY_UNUSABLE)


def _unwrap(der: bytes) -> bytes:
    """Return the content of an OCTET STRING of up to 255 octets (X.690 section 8.7), or *der*."""
    if len(der) > 2 and der[0] == _OCTET_STRING:
        head = 3 if der[1] == 0x81 else 2
        if der[head - 1] == len(der) - head:
            return der[head:]
    return der


def _read(thing: pkcs11.Object, attribute: pkcs11.Attribute) -> object:
    """Return an attribute, or None if the token does not have it. Raises PKCS11Error."""
    from pkcs11 import exceptions  # noqa: PLC0415 - as above

    try:
        return thing[attribute]
    except (exceptions.AttributeTypeInvalid, exceptions.AttributeSensitive, exceptions.AttributeValueInvalid):
        return None


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


def _lost() -> tuple[type[Exception], ...]:
    """What a session that has ended raises, and a token that came back."""
    from pkcs11 import exceptions as of  # noqa: PLC0415 - as above

    return (
        of.DeviceError,
        of.DeviceRemoved,
        of.GeneralError,
        of.KeyHandleInvalid,
        of.NoSuchToken,
        of.ObjectHandleInvalid,
        of.SessionClosed,
        of.SessionHandleInvalid,
        of.SlotIDInvalid,
        of.TokenNotPresent,
        of.UserAlreadyLoggedIn,
        of.UserNotLoggedIn,
    )


def _classify(error: Exception) -> Failure:
    from pkcs11 import exceptions as of  # noqa: PLC0415 - as above

    match error:
        case of.NoSuchToken() | of.TokenNotPresent() | of.DeviceRemoved() | of.TokenNotRecognised():
            return Failure.UNREACHABLE
        case of.PinExpired() | of.UserNotLoggedIn() | of.UserPinNotInitialized():
            return Failure.UNAUTHORIZED
        case of.KeyTypeInconsistent() | of.MechanismInvalid() | of.KeySizeRange() | of.MechanismParamInvalid():
            return Failure.KEY_UNUSABLE
        case _:
            return Failure.FAILED


def _describe(error: Exception) -> str:
    from pkcs11 import exceptions as of  # noqa: PLC0415 - as above

    match error:
        case of.NoSuchToken():
            return "there is no token with this label"
        case of.MechanismInvalid():
            return "the token has no mechanism for this algorithm"
        case _:
            return type(error).__name__  # its text, if any, is the library's
