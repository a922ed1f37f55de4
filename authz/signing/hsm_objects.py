"""The objects of one key in a PKCS#11 token: how its private key signs, and what its public key is.

Only the thread of the library calls these: see `hsm.py`. The package `pkcs11` is optional: only functions import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import Hash

from authz.signing.port import Failure, SigningUnavailable
from authz.signing.public import hash_of

if TYPE_CHECKING:
    import pkcs11

_OCTET_STRING: Final = 0x04
# RFC 8410 section 3, and the name that PKCS#11 2.40 has for the curve.
_EDWARDS25519: Final = (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519")
_CURVES: Final[Mapping[bytes, ec.EllipticCurve]] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
    bytes.fromhex("06052b81040023"): ec.SECP521R1(),
    bytes.fromhex("06052b8104000a"): ec.SECP256K1(),
}


def signing_function(algorithm: str) -> Callable[[pkcs11.SignMixin, bytes], bytes]:
    """Return the function that signs a message with a key, by *algorithm* as JWS has it (RFC 7518 section 3)."""
    from pkcs11 import MGF, Mechanism  # noqa: PLC0415 - an optional package

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
            hasher = Hash(hash_of(algorithm))  # here, because not every token can hash for ECDSA
            hasher.update(message)
            return key.sign(hasher.finalize(), mechanism=Mechanism.ECDSA)

        return sign
    return lambda key, message: key.sign(message, mechanism=Mechanism.EDDSA)


def read_public_key(session: pkcs11.Session, private: pkcs11.SignMixin) -> object:
    """Return the public half of *private* as a key of `cryptography`. Raises PKCS11Error, SigningUnavailable."""
    from pkcs11 import Attribute, KeyType, ObjectClass  # noqa: PLC0415 - as above

    key_type = read_attribute(private, Attribute.KEY_TYPE)
    if key_type is KeyType.RSA:  # the private key has the public members too
        modulus = read_attribute(private, Attribute.MODULUS)
        exponent = read_attribute(private, Attribute.PUBLIC_EXPONENT)
        if isinstance(modulus, bytes) and isinstance(exponent, bytes):
            number = int.from_bytes
            return rsa.RSAPublicNumbers(number(exponent, "big"), number(modulus, "big")).public_key()
    identity = read_attribute(private, Attribute.ID)
    wanted: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.KEY_TYPE: key_type}
    wanted |= {Attribute.ID: identity} if identity else {Attribute.LABEL: read_attribute(private, Attribute.LABEL)}
    for public in session.get_objects(wanted):
        params, point = read_attribute(public, Attribute.EC_PARAMS), read_attribute(public, Attribute.EC_POINT)
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


def read_attribute(pkcs11_object: pkcs11.Object, attribute: pkcs11.Attribute) -> object:
    """Return an attribute, or None if the token does not have it. Raises PKCS11Error."""
    from pkcs11 import exceptions  # noqa: PLC0415 - as above

    try:
        return pkcs11_object[attribute]
    except (exceptions.AttributeTypeInvalid, exceptions.AttributeSensitive, exceptions.AttributeValueInvalid):
        return None
