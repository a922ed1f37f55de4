"""Checks of the keys that sign what the sidecar issues."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from authz.config.address import check_url, is_host
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote, suggest
from authz.config.signing import KeyKind, SigningKey
from authz.core.algorithms import ALGORITHMS

MAX_KEYS: Final = 16

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
_KID: Final = re.compile(r"[!-~]{1,128}")
_HEX: Final = re.compile(r"([0-9A-Fa-f]{2}){1,64}")
# RFC 7518, RFC 8037, RFC 9964, in the services as of 2026.
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_LOCAL: Final = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519", "ML-DSA-65")
ALGORITHMS_OF: Final[Mapping[KeyKind, tuple[str, ...]]] = {
    KeyKind.MEMORY: _LOCAL,
    KeyKind.FILE: _LOCAL,
    KeyKind.PKCS11: (*_RSA, "ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519"),
    KeyKind.AWS_KMS: (
        *(*_RSA, "ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519"),
        *("ML-DSA-44", "ML-DSA-65", "ML-DSA-87"),
    ),
    KeyKind.GOOGLE_KMS: ("RS256", "RS512", "PS256", "PS512", "ES256", "ES384", "ES256K", "EdDSA", "Ed25519"),
    KeyKind.AZURE_KEY_VAULT: (*_RSA, "ES256", "ES384", "ES512", "ES256K"),
}
"""The algorithms of each kind of key."""
_REQUIRED: Final[Mapping[KeyKind, tuple[str, ...]]] = {
    KeyKind.MEMORY: (),
    KeyKind.FILE: ("file",),
    KeyKind.PKCS11: ("module", "token", "pin_file", "key"),
    KeyKind.AWS_KMS: ("key",),
    KeyKind.GOOGLE_KMS: ("key",),
    KeyKind.AZURE_KEY_VAULT: ("key",),
}
_ALLOWED: Final[Mapping[KeyKind, tuple[str, ...]]] = {
    **_REQUIRED,
    KeyKind.PKCS11: (*_REQUIRED[KeyKind.PKCS11], "key_id"),
    KeyKind.AWS_KMS: ("key", "region", "endpoint"),
    KeyKind.GOOGLE_KMS: ("key", "endpoint"),
}
_LOCATION_KEYS: Final = ("file", "key", "key_id", "module", "token", "pin_file", "region", "endpoint")
# What each service calls a key.
_KEY_FORMS: Final[Mapping[KeyKind, tuple[re.Pattern[str], str]]] = {
    KeyKind.AWS_KMS: (
        re.compile(
            r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:)?((key/)?(mrk-[0-9a-f]{32}|[0-9a-f-]{36})|alias/[\w/-]{1,250})"
        ),
        "must be an ARN, the id of a key, or alias/NAME",
    ),
    KeyKind.GOOGLE_KMS: (
        re.compile(
            r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+/cryptoKeyVersions/[1-9]\d*"
        ),
        "must be projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/V",
    ),
    KeyKind.AZURE_KEY_VAULT: (
        re.compile(r"https://[^/\s]+/keys/[0-9A-Za-z-]{1,127}/[0-9a-f]{32}"),
        "must be https://VAULT/keys/NAME/VERSION",
    ),
}


def check_signing(config: Config) -> Iterator[Problem]:
    """Report keys that lack a setting that their kind needs, and two keys with one key id."""
    path: KeyPath = ("signing", "keys")
    if len(config.signing.keys) > MAX_KEYS:
        yield Problem(path=path, message=f"has {len(config.signing.keys)} keys, at most {MAX_KEYS}")
    first: dict[str, str] = {}
    for name, key in config.signing.keys.items():
        if not _NAME.fullmatch(name):
            yield Problem(path=(*path, name), message="the name must be in lower case, without spaces")
        if key.kid is not None and key.kid in first:
            yield Problem(path=(*path, name, "kid"), message=f"is the kid of {quote(first[key.kid])} too")
        first.setdefault(key.kid or "", name)
        for check_one in (_check_members, _check_algorithm, _check_values):
            yield from check_one(key, (*path, name))


def _check_members(key: SigningKey, path: KeyPath) -> Iterator[Problem]:
    for member in _REQUIRED[key.kind]:
        if not getattr(key, member):
            yield Problem(path=path, message=f"kind {key.kind.value} needs {member}")
    for member in _LOCATION_KEYS:
        if getattr(key, member) is not None and member not in _ALLOWED[key.kind]:
            yield Problem(path=(*path, member), message=f"is not for kind {key.kind.value}")


def _check_algorithm(key: SigningKey, path: KeyPath) -> Iterator[Problem]:
    algorithm, supported = key.algorithm, ALGORITHMS_OF[key.kind]
    if algorithm is None or algorithm in supported:
        return
    if algorithm not in ALGORITHMS:
        message = f"unknown algorithm {quote(algorithm)}"
        yield Problem(path=(*path, "algorithm"), message=message, hint=suggest(algorithm, supported))
    elif ALGORITHMS[algorithm].kty == "oct":
        hint = "the upstream must not be able to sign"
        yield Problem(path=(*path, "algorithm"), message="is symmetric", hint=hint)
    else:
        message = f"kind {key.kind.value} signs by {', '.join(supported)}"
        yield Problem(path=(*path, "algorithm"), message=message)


def _check_values(key: SigningKey, path: KeyPath) -> Iterator[Problem]:
    if key.kid is not None and not _KID.fullmatch(key.kid):
        yield Problem(path=(*path, "kid"), message="must be 1 to 128 visible ASCII characters")
    if key.key_id is not None and not _HEX.fullmatch(key.key_id):
        yield Problem(path=(*path, "key_id"), message="must be hexadecimal, two digits for each octet")
    form = _KEY_FORMS.get(key.kind)
    if key.key and form is not None and not form[0].fullmatch(key.key):
        yield Problem(path=(*path, "key"), message=form[1])
    if key.endpoint is not None:
        yield from _check_endpoint(key, key.endpoint, (*path, "endpoint"))


def _check_endpoint(key: SigningKey, endpoint: str, path: KeyPath) -> Iterator[Problem]:
    if key.kind is KeyKind.GOOGLE_KMS:
        host, _, port = endpoint.rpartition(":")
        if not is_host(host) or not port.isdecimal() or not 0 < int(port) < 65_536:
            yield Problem(path=path, message="must be host:port")
    elif key.kind is KeyKind.AWS_KMS:
        try:
            check_url(endpoint)
        except ValueError as error:
            yield Problem(path=path, message=str(error))
