"""Where our core and three libraries decide differently, why, and by which clause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ALL_VERIFIERS: Final = frozenset({"core", "PyJWT", "joserfc", "jwcrypto"})
_OTHERS: Final = "PyJWT joserfc jwcrypto"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A class of differences: what we hold, by which source, and for each mutation who allows it."""

    name: str
    held: str
    source: str
    allowed: Mapping[str, str]


DISAGREEMENTS: Final = [
    Disagreement(
        "duplicate members",
        "two parsers may read two different values; one of them decides, another is believed",
        "RFC 7515 section 4, RFC 7519 section 4, RFC 8725 section 2.4",
        {
            "header: a duplicate member": _OTHERS,
            "iss: duplicate": _OTHERS,
            "aud: duplicate": _OTHERS,
            "sub: duplicate": _OTHERS,
            "exp: duplicate": _OTHERS,
            "payload: a duplicate below": _OTHERS,
        },
    ),
    Disagreement(
        "text that is not UTF-8, or marked",
        "header and claims are UTF-8; a byte order mark or another encoding is a second reading",
        "RFC 7515 section 5.2, RFC 8259 section 8.1, RFC 8725 section 3.7",
        {
            "header: byte order mark": "PyJWT joserfc",
            "header: UTF-16 or UTF-32": "PyJWT joserfc",
            "payload: byte order mark": _OTHERS,
            "payload: UTF-16 or UTF-32": _OTHERS,
        },
    ),
    Disagreement(
        "numbers and strings that JSON does not have",
        "NaN, Infinity and what rounds to it compare false with every instant; a lone surrogate has no UTF-8 form",
        "RFC 8259 section 6, RFC 7493 sections 2.1 and 2.2",
        {
            "header: NaN or Infinity": "PyJWT jwcrypto",
            "header: a number beyond doubles": "PyJWT jwcrypto",
            "header: a lone surrogate": "PyJWT jwcrypto",
            "exp: beyond doubles": "jwcrypto",
            "exp: Infinity": "jwcrypto",
            "payload: NaN or Infinity": _OTHERS,
            "payload: a number beyond doubles": _OTHERS,
            "payload: a lone surrogate": _OTHERS,
        },
    ),
    Disagreement(
        "bounds",
        "size, depth and length of numbers are bounded before anything costs time",
        "RFC 8259 section 9, RFC 7493 section 2.2",
        {
            "header: a number of 100 digits": "PyJWT jwcrypto",
            "header: 100 levels deep": "PyJWT jwcrypto",
            "exp: of 61 digits": _OTHERS,
            "exp: of 100 digits": _OTHERS,
            "payload: a number of 100 digits": _OTHERS,
            "payload: 33 levels deep": _OTHERS,
            "text: longer than 16 KiB": _OTHERS,
        },
    ),
    Disagreement(
        "base64url in another spelling",
        "padding, unused bits, foreign characters and the other alphabet make one token of many texts",
        "RFC 7515 section 2, RFC 4648 sections 3.2, 3.3 and 3.5",
        {
            "text: padding after the header": "jwcrypto",
            "text: padding after the payload": "jwcrypto",
            "text: padding after the signature": "PyJWT jwcrypto",
            "text: signed padding in the header": "PyJWT",
            "text: signed padding in the payload": "PyJWT",
            "text: four foreign characters inside": "jwcrypto",
            "text: the other base64 alphabet": "jwcrypto",
            "text: unused bits in the header": "jwcrypto",
            "text: unused bits in the payload": "jwcrypto",
            "text: unused bits in the signature": "jwcrypto",
        },
    ),
    Disagreement(
        "JSON serialisation",
        "a bearer token is a compact JWS; unprotected headers are not signed",
        "RFC 7519 section 1, RFC 6750 section 2.1",
        {"text: JSON serialisation, flattened": "jwcrypto"},
    ),
    Disagreement(
        "types of times",
        "a NumericDate is a number of seconds: no string, bool, null or milliseconds, and not before the epoch",
        "RFC 7519 sections 2, 4.1.4, 4.1.5 and 4.1.6",
        {
            "exp: a string of digits": "PyJWT",
            "exp: in milliseconds or less": _OTHERS,
            "nbf: a string of digits": "PyJWT",
            "nbf: a bool": "PyJWT jwcrypto",
            "nbf: negative": _OTHERS,
            "iat: a string of digits": "PyJWT jwcrypto",
            "iat: a bool": "PyJWT jwcrypto",
            "iat: null": "jwcrypto",
            "iat: a list or an object": "jwcrypto",
            "iat: negative": _OTHERS,
        },
    ),
    Disagreement(
        "fractions of a second",
        "a NumericDate may have a fraction, and it counts; cut off, it is early at one end and late at the other",
        "RFC 7519 section 2",
        {
            "exp: later by less than a second": "core joserfc jwcrypto",
            "nbf: later by less than a second": "PyJWT",
            "iat: later by less than a second": "PyJWT jwcrypto",
        },
    ),
    Disagreement(
        "issued in the future",
        "a token from the future has a wrong clock behind it, or a forger",
        "RFC 7519 section 4.1.6, RFC 9068 section 2.2",
        {"iat: later by a second or more": "jwcrypto"},
    ),
    Disagreement(
        "types of other claims",
        "jti is a string, and sub if it is needed; aud is a string or a list of strings; an empty subject is none",
        "RFC 7519 sections 4.1.2, 4.1.3 and 4.1.7",
        {
            "sub: empty": "PyJWT",
            "sub: not a string": "jwcrypto",
            "jti: not a string": "jwcrypto",
            "aud: a list with something else than strings": "jwcrypto",
        },
    ),
    Disagreement(
        "bound tokens",
        "a thief cannot prove possession: without the proof it is not a bearer token",
        "RFC 7800 section 3.1, RFC 8705 section 3, RFC 9449 section 7.1",
        {"cnf: bound to a key": _OTHERS, "cnf: not an object": _OTHERS},
    ),
    Disagreement(
        "tokens for something else",
        "a logout token or a token of another type is no access token",
        "RFC 8725 sections 2.8, 3.11 and 3.12, RFC 9068 section 4, OpenID Connect Back-Channel Logout section 2.4",
        {
            "typ: of another kind of token": _OTHERS,
            "typ: not a string": "PyJWT jwcrypto",
            "events: a logout token": _OTHERS,
        },
    ),
    Disagreement(
        "extensions",
        "no extension is supported: crit and b64 are refused whatever they contain, also if empty",
        "RFC 7515 section 4.1.11, RFC 7797 section 3",
        {
            "crit: empty": "joserfc jwcrypto",
            "crit: a registered name": "joserfc jwcrypto",
            "b64: true, critical": _OTHERS,
            "b64: true, uncritical": _OTHERS,
        },
    ),
    Disagreement(
        "what a header says besides",
        "unknown members are ignored; jwk, jku, x5u and x5c are never looked at, so never parsed",
        "RFC 7515 sections 4 and 4.2, RFC 8725 section 3.10",
        {
            "header: unknown members": "core PyJWT jwcrypto",
            "header: nested": "core PyJWT jwcrypto",
            "key: offered by the token, malformed": "core PyJWT jwcrypto",
            "zip: DEF": "core PyJWT jwcrypto",
        },
    ),
    Disagreement(
        "lengths of signatures",
        "both halves of an ECDSA signature have the length of the order, leading zeros included",
        "RFC 7518 section 3.4",
        {
            "ecdsa: the zero octet of r left out": "jwcrypto",
            "ecdsa: the zero octets of r and s left out": "jwcrypto",
        },
    ),
    Disagreement(
        "what a key says of itself",
        "alg, use and key_ops of the key must agree with the token, each of them that is there",
        "RFC 7517 sections 4.2 to 4.4, RFC 8725 section 3.1, RFC 9864 section 3",
        {
            "keys: use is enc": "PyJWT",
            "keys: use is unknown": "PyJWT",
            "keys: key_ops without verify": "PyJWT",
            "keys: alg unknown": "jwcrypto",
            "keys: rsa: alg of another hash": "jwcrypto",
            "keys: rsa: alg of another padding": "jwcrypto",
            "keys: ec: alg of another curve": "jwcrypto",
            "keys: ec: alg of RSA": "jwcrypto",
            "keys: okp: alg in its other name": "jwcrypto",
        },
    ),
    Disagreement(
        "which key is meant",
        "a token that names no key, or one that two have, is tried under at most four keys that fit its alg;"
        " the order of a document says nothing",
        "RFC 7515 section 4.1.4, RFC 7517 section 4.5",
        {
            "keys: another of the same name before it": "core",
            "keys: another of the same name behind it": "core PyJWT joserfc",
            "kid: absent, two keys are candidates": "core",
            "kid: empty, two keys are candidates": "core",
            "kid: empty, one can be meant": "core",
        },
    ),
    Disagreement(
        "keys that are no secret, or none",
        "with a published private key or a short modulus anyone can sign",
        "RFC 7517 section 9.2, RFC 7518 section 3.3, NIST SP 800-131A",
        {
            "keys: rsa: private part published": "joserfc jwcrypto",
            "keys: ec: private part published": _OTHERS,
            "keys: rsa: 1024 bits": _OTHERS,
        },
    ),
    Disagreement(
        "spelling of keys",
        "only the issuer writes them: zero octets and padding have one meaning, and are noted",
        "RFC 7518 sections 2, 6.2.1.2 and 6.3.1.1",
        {
            "keys: rsa: padded base64": "core PyJWT jwcrypto",
            "keys: ec: a zero octet before x": "core joserfc jwcrypto",
        },
    ),
    Disagreement(
        "a bad key beside a good one",
        "each key is checked alone: unknown or broken ones are rejected, the others stay in use",
        "RFC 7517 section 5",
        {
            "keys: something else than objects beside": "core PyJWT joserfc",
            "keys: one without kty beside": "core PyJWT jwcrypto",
            "keys: a broken one beside": "core PyJWT",
            "keys: an unknown curve beside": "core PyJWT jwcrypto",
        },
    ),
    Disagreement(
        "algorithms of their time",
        "the fully-specified names and ML-DSA are not yet known everywhere",
        "RFC 9864 section 2, RFC 9964 section 3",
        {
            "alg: Ed25519": "core joserfc jwcrypto",
            "alg: Ed448": "core joserfc jwcrypto",
            "alg: ML-DSA-44": "core jwcrypto",
        },
    ),
]
ALLOWED: Final = {
    mutation: frozenset(who.split()) for entry in DISAGREEMENTS for mutation, who in entry.allowed.items()
}
