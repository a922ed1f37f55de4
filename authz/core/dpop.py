"""Proofs that the sender of a request holds the key that its token is bound to (DPoP, RFC 9449).

Rules of this file:
1. The cheapest checks of a proof come first: form, key, the request that it is for, time; its signature is last.
2. Any fault of a proof has one reason, which is never one of the token: for those, clients fetch a new token.
3. Whether a proof was used before is a need. The signature is verified before, so that no client can fill the memory of
   used proofs with unsigned ones.
4. Nonces are derived from the time by a secret that replicas share, and are not stored. A nonce in a proof must be a
   fresh one of ours; `iat` is then not checked, so that clients with a wrong clock are accepted.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Final

from authz.core import base64url
from authz.core.algorithms import DEFAULT_ALGORITHMS
from authz.core.claims import normalize_type
from authz.core.htu import is_same_url
from authz.core.jwk_validation import InvalidJwk, public_part, publishes_private_part
from authz.core.key import Key, import_key, verify_signature
from authz.core.numeric_date import is_numeric_date
from authz.core.reasons import Reason, Rejected
from authz.core.strictjson import parse_object
from authz.core.token import UnverifiedToken, parse_token

SCHEME: Final = "DPoP"
MAX_PROOF_CHARS: Final = 8_192  # one with an RSA key of 4,096 bits has about 2,500
MAX_JTI_CHARS: Final = 512
TYPE: Final = "dpop+jwt"
MAX_CACHED_PROOFS: Final = 64  # whose requests wait for facts
_MAX_CACHED_KEYS: Final = 1024  # a client sends the same header with each of its proofs
_MAX_CACHED_HEADER_CHARS: Final = 1024  # characters


class Possession(StrEnum):
    """Whether an issuer's tokens may be, or must be, bound to a key by DPoP."""

    OFF = "never"  # not "off", which YAML 1.1 takes for false
    ALLOWED = "allowed"
    REQUIRED = "required"


class ProofUse(Enum):
    """The fact about a proof: whether it is used for the first time."""

    FIRST = "first"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Nonces:
    """Derives nonces (RFC 9449 section 9) from the time by HMAC with *secret*: a new one every *step* seconds.

    A nonce is accepted in its own step, in the one before, by replicas whose clocks are behind, and in the one after.
    """

    secret: bytes = field(repr=False)
    step: float = 60.0

    def current(self, now: float) -> str:
        """Return the nonce for clients to use at *now*, seconds since the epoch."""
        return self._nonce(int(now // self.step))

    def expiry(self, nonce: str, now: float) -> float | None:
        """Return until when *nonce* is accepted, in seconds since the epoch; None if it is not accepted at *now*."""
        bucket = int(now // self.step)
        for step in (bucket, bucket - 1, bucket + 1):
            if hmac.compare_digest(self._nonce(step).encode(), nonce.encode("utf-8", "replace")):
                return (step + 2) * self.step
        return None

    def _nonce(self, step: int) -> str:
        digest = hmac.digest(self.secret, step.to_bytes(8, "big", signed=True), "sha256")
        return base64url.encode(digest[:16]).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRules:
    """What a proof must fulfil. Durations are in seconds.

    *origins* are the schemes and authorities under which clients know this service, `https://` and the request's own
    host if there are none: behind a TLS terminator, Envoy does not know the scheme. Without *nonces*, no proof may have
    one; *require_nonce* refuses those without.
    """

    algorithms: frozenset[str] = frozenset(DEFAULT_ALGORITHMS)
    origins: tuple[str, ...] = ()
    max_age: float = 300.0
    max_ahead: float = 30.0
    require_ath: bool = True
    nonces: Nonces | None = None
    require_nonce: bool = False

    def urls(self, host: str, path: str) -> tuple[str, ...]:
        """Return the URLs that a client may have requested, for *path* at *host*."""
        return tuple(origin + path for origin in self.origins or (f"https://{host}",))


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """A proof whose signature is not verified yet, nor whether it was used before. It is compared by identity.

    *thumbprint* is that of its key (RFC 7638). *replay_key* identifies the proof, and *until* is when it expires, in
    seconds since the epoch.
    """

    thumbprint: str
    replay_key: str
    until: float
    _key: Key = field(repr=False)
    _token: UnverifiedToken = field(repr=False)

    def verify(self) -> None:
        """Verify the signature. Raises Rejected(PROOF_INVALID)."""
        try:
            verify_signature(self._key, self._token)
        except Rejected as rejected:
            raise _invalid(rejected.detail) from rejected


def read_proof(
    text: str | None, *, token: str, method: str, urls: tuple[str, ...], rules: ProofRules, now: float
) -> Proof:
    """Read the only proof of a request, *text* of its DPoP header, sent with *token* for one of *urls* at *now*.

    It makes all checks of RFC 9449 section 4.3 except signature and replay. Raises Rejected: PROOF_INVALID,
    NONCE_REQUIRED.
    """
    if text is None:
        raise _invalid("no DPoP header")
    if "," in text:
        raise _invalid("more than one DPoP header")
    try:
        parsed = parse_token(text, max_bytes=MAX_PROOF_CHARS, cached=False)
        members = parsed.members
    except Rejected as rejected:
        raise _invalid(rejected.detail) from rejected
    if normalize_type(parsed.typ) != TYPE:
        raise _invalid(f"typ is not {TYPE}")
    if parsed.alg not in rules.algorithms:
        raise _invalid("alg is not allowed for proofs")
    key = _read_key(text.partition(".")[0])
    if not key.supports(parsed.alg, rules.algorithms):
        raise _invalid("alg does not fit the key")
    if members.get("htm") != method:
        raise _invalid("htm is not the method")
    htu = members.get("htu")
    if not isinstance(htu, str) or not any(is_same_url(htu, url) for url in urls):
        raise _invalid("htu is not the URL")
    _check_token_hash(members.get("ath"), token, rules)
    jti = members.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI_CHARS:
        raise _invalid(f"jti is not a string of 1 to {MAX_JTI_CHARS} characters")
    until = _check_time(members, rules, now)
    digest = hashlib.sha256(f"{key.thumbprint}.{jti}".encode("utf-8", "replace")).digest()
    return Proof(key.thumbprint, base64url.encode(digest).decode(), until, key, parsed)


def _check_token_hash(ath: object, token: str, rules: ProofRules) -> None:
    if ath is None and not rules.require_ath:
        return
    if ath != base64url.encode(hashlib.sha256(token.encode("utf-8", "replace")).digest()).decode():
        raise _invalid("ath is missing" if ath is None else "ath is of another token")


def _check_time(members: dict[str, object], rules: ProofRules, now: float) -> float:
    """Return when the proof expires."""
    iat, exp, nbf = (_read_date(members, name) for name in ("iat", "exp", "nbf"))
    if iat is None:
        raise _invalid("iat is missing")
    if exp is not None and now - rules.max_ahead >= exp:
        raise _invalid(f"expired {now - exp:.0f} s ago")
    if nbf is not None and nbf > now + rules.max_ahead:
        raise _invalid(f"nbf is {nbf - now:.0f} s ahead")
    nonce = members.get("nonce")
    if nonce is not None or (rules.require_nonce and rules.nonces is not None):
        return _check_nonce(nonce, rules, now)
    if not -rules.max_ahead <= now - iat < rules.max_age:
        ahead = f"iat is {iat - now:.0f} s ahead" if iat > now else f"made {now - iat:.0f} s ago"
        raise _require_nonce(ahead, rules, now)
    return iat + rules.max_age


def _check_nonce(nonce: object, rules: ProofRules, now: float) -> float:
    expiry = rules.nonces.expiry(nonce, now) if rules.nonces is not None and isinstance(nonce, str) else None
    if expiry is None:
        raise _require_nonce(
            "nonce is missing" if nonce is None else "nonce is not one of ours that is fresh", rules, now
        )
    return expiry


def _read_date(members: dict[str, object], name: str) -> float | None:
    date = members.get(name)
    if date is None:
        return None
    if not is_numeric_date(date):
        raise _invalid(f"{name} is not a NumericDate")
    return date


def _read_key(header: str) -> Key:
    try:
        return (_import_key_cached if len(header) <= _MAX_CACHED_HEADER_CHARS else _import_key)(header)
    except InvalidJwk as error:
        raise _invalid(f"jwk: {error}") from error


def _import_key(header: str) -> Key:
    """Import the public key of a proof's header. Of its metadata, only `alg` is used.

    Raises InvalidJwk.
    """
    jwk = parse_object(base64url.decode(header.encode())).get("jwk")
    if not isinstance(jwk, dict):
        raise InvalidJwk("missing, or not an object")
    if publishes_private_part(jwk) or jwk.get("kty") == "oct":
        raise InvalidJwk("not a public key")
    members = public_part(jwk)
    if "alg" in jwk:
        members["alg"] = jwk["alg"]
    return import_key(members, local=False, x5c_mismatch=True)


_import_key_cached: Final = lru_cache(maxsize=_MAX_CACHED_KEYS)(_import_key)

verify_once: Final = lru_cache(maxsize=MAX_CACHED_PROOFS)(Proof.verify)
"""Verify the signature of a proof, once if its request is decided several times. Raises Rejected(PROOF_INVALID)."""


def _require_nonce(detail: str, rules: ProofRules, now: float) -> Rejected:
    """Ask for a nonce, which repairs clients with a wrong clock; without nonces, refuse the proof."""
    if rules.nonces is None:
        return _invalid(detail)
    return Rejected(Reason.NONCE_REQUIRED, detail, nonce=rules.nonces.current(now))


def _invalid(detail: str) -> Rejected:
    return Rejected(Reason.PROOF_INVALID, f"proof: {detail}")
