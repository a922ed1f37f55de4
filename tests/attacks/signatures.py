"""What can be done to the signature of a token, and to the key set that it is verified with."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from hashlib import sha1, sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from jwcrypto.jwk import JWK

from authz.core import base64url
from authz.core.algorithms import ALGORITHMS
from authz.demo.signing import SigningKey
from tests.attacks.draft import EC_ORDERS, Change, Draft, Members, Mutation, one_of, set_header, sign
from tests.fixtures import ABSENT, signer

_EDWARDS: Final = frozenset({"EdDSA", "Ed25519"})
_ELLIPTIC: Final = frozenset(EC_ORDERS)
_RSA: Final = frozenset({"RS256"})
_ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017 section 9.2, SHA-256


def _after(change: Callable[[bytes], bytes]) -> Change:
    """Sign well, then change the signature."""
    return _instead(lambda key, data: change(sign(key, data)))


def _instead(how: Callable[[SigningKey, bytes], bytes]) -> Change:
    def change(draft: Draft) -> None:
        draft.sign = how

    return change


def _halves(key: SigningKey, signature: bytes) -> tuple[int, int, int, int]:
    """Split an ECDSA signature: r, s, the order of the group, and the octets of each half."""
    half = len(signature) // 2
    order = ALGORITHMS[key.algorithm].order
    assert order is not None
    return int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"), order, half


def _ecdsa(change: Callable[[int, int, int], tuple[int, int]]) -> Change:
    """Sign well, then change r and s."""

    def how(key: SigningKey, data: bytes) -> bytes:
        r, s, order, half = _halves(key, sign(key, data))
        return b"".join((number % 256**half).to_bytes(half, "big") for number in change(r, s, order))

    return _instead(how)


def _der(key: SigningKey, data: bytes) -> bytes:
    r, s, _, _ = _halves(key, sign(key, data))
    return encode_dss_signature(r, s)


def _until(good: Callable[[bytes], bool], change: Callable[[bytes], bytes]) -> Change:
    """Sign again and again, until the signature is *good* for the change."""

    def how(key: SigningKey, data: bytes) -> bytes:
        signature = sign(key, data)
        while not good(signature):
            signature = sign(key, data)
        return change(signature)

    return _instead(how)


def _private(key: SigningKey) -> rsa.RSAPrivateKey:
    private = key.jwk.get_op_key("sign")
    assert isinstance(private, rsa.RSAPrivateKey)
    return private


def _block(pad: Callable[[bytes, int], bytes]) -> Change:
    """Sign an encoded message of our own making, as only the issuer's own key can."""

    def how(key: SigningKey, data: bytes) -> bytes:
        numbers = _private(key).private_numbers()
        size = (numbers.public_numbers.n.bit_length() + 7) // 8
        message = int.from_bytes(pad(sha256(data).digest(), size), "big")
        return pow(message, numbers.d, numbers.public_numbers.n).to_bytes(size, "big")

    return _instead(how)


def _padded(info: bytes, size: int, *, kind: bytes = b"\x01", fill: bytes = b"\xff", least: int = 0) -> bytes:
    """EMSA-PKCS1-v1_5 (RFC 8017 section 9.2), with its parts open to change."""
    room = size - 3 - len(info) - least
    return b"\x00" + kind + fill * room + b"\x00" + info + bytes(least)


def _pss(hashed: HashAlgorithm, mask: HashAlgorithm, salt: int) -> Change:
    return _instead(lambda key, data: _private(key).sign(data, padding.PSS(padding.MGF1(mask), salt), hashed))


def _modulus_more(key: SigningKey, data: bytes) -> bytes:
    signature = sign(key, data)
    n = _private(key).public_key().public_numbers().n
    number = int.from_bytes(signature, "big") + n
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _mac(form: Callable[[JWK], bytes]) -> Change:
    """Use the public key as a secret (RFC 8725 section 2.1)."""

    def change(draft: Draft) -> None:
        set_header(alg="HS256")(draft)
        draft.sign = lambda key, data: hmac.digest(form(key.jwk), data, "sha256")

    return change


def _pem(jwk: JWK) -> bytes:
    exported: bytes = jwk.export_to_pem()
    return exported


def _edwards_order_more(signature: bytes) -> bytes:
    s = int.from_bytes(signature[32:], "little") + _ED25519_ORDER
    return signature[:32] + s.to_bytes(32, "little")


ANY: Final[dict[str, Change]] = {
    "signature: of zeros": _after(lambda signature: bytes(len(signature))),
    "signature: of ones": _after(lambda signature: b"\xff" * len(signature)),
    "signature: one bit changed": _after(lambda signature: signature[:-1] + bytes([signature[-1] ^ 1])),
    "signature: an octet less": _after(lambda signature: signature[:-1]),
    "signature: an octet more": one_of(_after(lambda s: s + b"\x00"), _after(lambda s: b"\x00" + s)),
    "signature: twice": _after(lambda signature: signature * 2),
    "signature: of other data": _instead(lambda key, data: sign(key, data + b"A")),
    "signature: of the payload alone": _instead(lambda key, data: sign(key, data.partition(b".")[2])),
    "signature: a plain hash": _instead(lambda _, data: sha256(data).digest()),
    "signature: a MAC with the public key": one_of(
        _mac(_pem),
        _mac(lambda jwk: _pem(jwk).replace(b"\n", b"\r\n")),
        _mac(lambda jwk: _pem(jwk).strip()),
        _mac(lambda jwk: str(jwk.export_public()).encode()),
        _mac(lambda jwk: b""),
    ),
}
ECDSA: Final[dict[str, Change]] = {
    "ecdsa: DER": _instead(_der),
    "ecdsa: r and s exchanged": _ecdsa(lambda r, s, n: (s, r)),
    "ecdsa: s negated": _ecdsa(lambda r, s, n: (r, n - s)),
    "ecdsa: r or s zero": one_of(_ecdsa(lambda r, s, n: (0, s)), _ecdsa(lambda r, s, n: (r, 0))),
    "ecdsa: r or s the order": one_of(_ecdsa(lambda r, s, n: (n, s)), _ecdsa(lambda r, s, n: (r, n))),
    "ecdsa: r and s zero, or the order": one_of(_ecdsa(lambda r, s, n: (0, 0)), _ecdsa(lambda r, s, n: (n, n))),
    "ecdsa: r or s one": one_of(_ecdsa(lambda r, s, n: (1, s)), _ecdsa(lambda r, s, n: (r, 1))),
}
ECDSA_521: Final[dict[str, Change]] = {
    "ecdsa: the order added": one_of(_ecdsa(lambda r, s, n: (r + n, s)), _ecdsa(lambda r, s, n: (r, s + n))),
    "ecdsa: top bits set": _after(lambda signature: b"\x80" + signature[1:]),
}
ECDSA_256: Final[dict[str, Change]] = {
    "ecdsa: r begins with a zero octet": _until(lambda signature: signature[0] == 0, bytes),
    "ecdsa: the zero octet of r left out": _until(lambda signature: signature[0] == 0, lambda s: s[1:]),
    "ecdsa: the zero octets of r and s left out": _until(lambda s: s[0] == 0, lambda s: s[1:32] + s[32:]),
}
EDWARDS: Final[dict[str, Change]] = {
    "eddsa: the order added to S": _after(_edwards_order_more),
    "eddsa: S zero": _after(lambda signature: signature[:32] + bytes(32)),
    "eddsa: R of small order": _after(lambda signature: b"\x01" + bytes(31) + signature[32:]),
}
PKCS1: Final[dict[str, Change]] = {
    "pkcs1: as it should be": _block(lambda digest, size: _padded(_DIGEST_INFO + digest, size)),
    "pkcs1: octets behind the hash": _block(lambda digest, size: _padded(_DIGEST_INFO + digest, size, least=8)),
    "pkcs1: short padding, the rest behind": _block(
        lambda digest, size: b"\x00\x01" + b"\xff" * 8 + b"\x00" + (_DIGEST_INFO + digest).ljust(size - 11, b"\x00")
    ),
    "pkcs1: block type 0 or 2": one_of(
        _block(lambda digest, size: _padded(_DIGEST_INFO + digest, size, kind=b"\x02")),
        _block(lambda digest, size: _padded(_DIGEST_INFO + digest, size, kind=b"\x00", fill=b"\x00")),
    ),
    "pkcs1: padding of other octets": _block(lambda digest, size: _padded(_DIGEST_INFO + digest, size, fill=b"\xfe")),
    "pkcs1: no algorithm named": _block(_padded),
    "pkcs1: parameters left out": _block(
        lambda digest, size: _padded(bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + digest, size)
    ),
    "pkcs1: hash of another algorithm": _block(
        lambda digest, size: _padded(_DIGEST_INFO.replace(b"\x02\x01\x05", b"\x02\x03\x05") + digest, size)
    ),
    "pkcs1: long form of a length": _block(
        lambda digest, size: _padded(b"\x30\x81\x31" + _DIGEST_INFO[2:] + digest, size)
    ),
    "pkcs1: PSS instead": _pss(SHA256(), SHA256(), 32),
    "pkcs1: the modulus added": _instead(_modulus_more),
    "pkcs1: SHA-1": _block(
        lambda digest, size: _padded(bytes.fromhex("3021300906052b0e03021a05000414") + sha1(digest).digest(), size)  # noqa: S324
    ),
}
PSS: Final[dict[str, Change]] = {
    "pss: no salt": _pss(SHA256(), SHA256(), 0),
    "pss: salt of another length": one_of(_pss(SHA256(), SHA256(), 20), _pss(SHA256(), SHA256(), 222)),
    "pss: mask by SHA-1": _pss(SHA256(), SHA1(), 32),  # noqa: S303
    "pss: PKCS #1 v1.5 instead": _instead(lambda key, data: _private(key).sign(data, padding.PKCS1v15(), SHA256())),
}


def _jwk(**changes: object) -> Change:
    """Change members of the token's own key in the set."""

    def change(draft: Draft) -> None:
        jwk = draft.public()
        for name, value in changes.items():
            if value is ABSENT:
                jwk.pop(name, None)
            else:
                jwk[name] = value

    return change


def _beside(*entries: object, behind: bool = True) -> Change:
    """Put other entries into the set."""

    def change(draft: Draft) -> None:
        draft.keys = [*draft.keys, *entries] if behind else [*entries, *draft.keys]

    return change


def _twin(*, behind: bool) -> Change:
    """Publish another key of the same kind under the token's key id."""

    def change(draft: Draft) -> None:
        other = signer(draft.key.algorithm, "other").public() | {"kid": draft.key.kid}
        _beside(other, behind=behind)(draft)

    return change


def _replace(make: Callable[[Members], object]) -> Change:
    def change(draft: Draft) -> None:
        draft.public().update(make(draft.public()))  # type: ignore[call-overload]

    return change


def _octets(change: Callable[[bytes], bytes], *names: str) -> Change:
    """Change the octets of members that are numbers."""

    def rewrite(draft: Draft) -> None:
        jwk = draft.public()
        for name in names:
            jwk[name] = base64url.encode(change(base64url.decode(jwk[name].encode()))).decode()

    return rewrite


def _leak(name: str) -> Change:
    def change(draft: Draft) -> None:
        draft.public()[name] = json.loads(draft.key.jwk.export())[name]

    return change


def _weak(draft: Draft) -> None:
    generate: Any = JWK.generate
    draft.key = SigningKey(draft.key.kid, "RS256", generate(kty="RSA", size=1024))
    draft.keys = [draft.key.public()]


KEYS_ANY: Final[dict[str, Change]] = {
    "keys: of another kid": _jwk(kid="nobody"),
    "keys: without the token's": lambda draft: draft.keys.remove(draft.public()),
    "keys: use is enc": _jwk(use="enc"),
    "keys: use is unknown": _jwk(use="x"),
    "keys: use absent": _jwk(use=ABSENT),
    "keys: key_ops without verify": _jwk(key_ops=["encrypt"], use=ABSENT),
    "keys: key_ops with verify": _jwk(key_ops=["verify"], use=ABSENT),
    "keys: alg unknown": _jwk(alg="XX256"),
    "keys: kid is a number": _jwk(kid=1),
    "keys: identical duplicates": lambda draft: _beside(dict(draft.public()))(draft),
    "keys: another of the same name before it": _twin(behind=False),
    "keys: another of the same name behind it": _twin(behind=True),
    "keys: a symmetric one beside": _beside({"kty": "oct", "kid": "s", "k": "AAAA", "alg": "HS256"}),
    "keys: an unknown kty beside": _beside({"kty": "XYZ", "kid": "u"}),
    "keys: something else than objects beside": one_of(_beside(None), _beside("x"), _beside([1])),
    "keys: one without kty beside": _beside({"kid": "u"}),
    "keys: a broken one beside": one_of(
        _beside({"kty": "RSA", "kid": "u", "n": 1, "e": "AQAB"}),
        _beside({"kty": "EC", "kid": "u", "crv": "P-256", "x": "AAAA"}),
        _beside({"kty": "RSA", "kid": "u", "n": "####", "e": "AQAB"}),
    ),
    "keys: an unknown curve beside": _beside({"kty": "EC", "kid": "u", "crv": "P-999", "x": "AA", "y": "AA"}),
}
KEYS_RSA: Final[dict[str, Change]] = {
    "keys: rsa: no alg": _jwk(alg=ABSENT),
    "keys: rsa: alg of another hash": _jwk(alg="RS512"),
    "keys: rsa: alg of another padding": _jwk(alg="PS256"),
    "keys: rsa: private part published": _leak("d"),
    "keys: rsa: zero octets before n": _octets(lambda octets: b"\x00" + octets, "n"),
    "keys: rsa: padded base64": _replace(lambda jwk: {"n": jwk["n"] + "=="}),
    "keys: rsa: 1024 bits": _weak,
    "keys: rsa: exponent one": _jwk(e="AQ"),
    "keys: rsa: even exponent": _jwk(e="AQAA"),
    "keys: rsa: even modulus": _octets(lambda octets: octets[:-1] + b"\x02", "n"),
    "keys: rsa: kty in lower case": _jwk(kty="rsa"),
}
KEYS_EC: Final[dict[str, Change]] = {
    "keys: ec: alg of another curve": _jwk(alg="ES512"),
    "keys: ec: alg of RSA": _jwk(alg="RS256"),
    "keys: ec: no alg": _jwk(alg=ABSENT),
    "keys: ec: off its curve": _octets(lambda octets: octets[:-1] + bytes([octets[-1] ^ 1]), "y"),
    "keys: ec: a zero octet before x": _octets(lambda octets: b"\x00" + octets, "x"),
    "keys: ec: the other half": _replace(lambda jwk: {"x": jwk["y"], "y": jwk["x"]}),
    "keys: ec: curve of another name": one_of(_jwk(crv="secp256k1"), _jwk(crv="P-384")),
    "keys: ec: curve in lower case": _jwk(crv="p-256"),
    "keys: ec: private part published": _leak("d"),
}
KEYS_OKP: Final[dict[str, Change]] = {
    "keys: okp: alg in its other name": lambda draft: _jwk(
        alg={"EdDSA": "Ed25519", "Ed25519": "EdDSA"}[draft.key.algorithm]
    )(draft),
    "keys: okp: no alg": _jwk(alg=ABSENT),
    "keys: okp: point of small order": _jwk(x="AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    "keys: okp: of the curve X25519": _jwk(crv="X25519"),
}


def _all(area: str, table: dict[str, Change], fits: frozenset[str] = frozenset()) -> list[Mutation]:
    return [Mutation(name, area, change, fits) for name, change in table.items()]


MUTATIONS: Final = [
    *_all("signature", ANY),
    *_all("signature", ECDSA, _ELLIPTIC),
    *_all("signature", ECDSA_521, frozenset({"ES512"})),
    *_all("signature", ECDSA_256, frozenset({"ES256"})),
    *_all("signature", EDWARDS, _EDWARDS),
    *_all("signature", PKCS1, _RSA),
    *_all("signature", PSS, frozenset({"PS256"})),
    *_all("keys", KEYS_ANY),
    *_all("keys", KEYS_RSA, _RSA),
    *_all("keys", KEYS_EC, frozenset({"ES256"})),
    *_all("keys", KEYS_OKP, _EDWARDS),
]
