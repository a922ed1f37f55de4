"""Read a JWK Set (RFC 7517 section 5): the usable keys, and the rejected keys with their reasons.

Rules of this file:
1. An invalid key is rejected and does not affect the other keys; only an unusable document fails as a whole.
2. The size of a document is limited in bytes. Of more than *max_keys* usable keys, the first ones are kept.
3. A key whose private part is in the set is rejected under every key id.
4. One key, one algorithm: if a key is in the set with and without `alg`, the copy without it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from authz.core.issuer_document import parse_document
from authz.core.jwk_normalization import normalize_jwk
from authz.core.jwk_validation import (
    LEAKED_PRIVATE_KEY,
    InvalidJwk,
    NotASigningKey,
    public_part,
    publishes_private_part,
)
from authz.core.key import Key, RejectedKey, import_key, thumbprint_of
from authz.core.strictjson import MAX_CONTAINERS
from authz.core.token import MAX_KID_CHARS

MAX_KEYS: Final = 1_000
MAX_DOCUMENT_BYTES: Final = 262_144
_BYTES_PER_CONTAINER: Final = 32  # a key has more than 100 bytes and few arrays or objects

_Usable = dict[tuple[str | None, str, str | None], Key]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRules:
    """*local* allows symmetric keys, *x5c_mismatch* keys whose certificate holds another public key."""

    local: bool = False
    max_keys: int = MAX_KEYS
    max_bytes: int = MAX_DOCUMENT_BYTES
    x5c_mismatch: bool = False


def read_jwk_set(document: str | bytes, rules: ReadingRules) -> tuple[tuple[Key, ...], tuple[RejectedKey, ...]]:
    """Return the usable keys of *document* and the rejected ones.

    Raises ValueError if the document itself is unusable.
    """
    entries = [normalize_jwk(entry) if isinstance(entry, dict) else None for entry in _parse(document, rules)]
    usable: _Usable = {}
    rejected: list[RejectedKey] = []
    for entry in entries:
        if entry is None:
            rejected.append(RejectedKey(None, "not a JSON object"))
            continue
        kid = _read_kid(entry.members)
        try:
            key = import_key(entry.members, local=rules.local, x5c_mismatch=rules.x5c_mismatch, notes=entry.notes)
        except NotASigningKey as error:
            thumbprint = thumbprint_of(public_part(entry.members))
            rejected.append(RejectedKey(kid, str(error), other_purpose=True, thumbprint=thumbprint))
        except InvalidJwk as error:
            kty, crv, alg = (_read_text(entry.members, member) for member in ("kty", "crv", "alg"))
            thumbprint = thumbprint_of(public_part(entry.members))
            rejected.append(RejectedKey(kid, str(error), kty, crv, alg, thumbprint=thumbprint))
        else:
            name = (key.kid, key.thumbprint, key.alg)
            if name not in usable and len(usable) >= rules.max_keys:
                why = f"beyond the first {rules.max_keys} usable keys (fetch.max_keys)"
                rejected.append(_reject(key, why))
            else:
                usable[name] = _merge(usable.get(name), key)
    leaked = {thumbprint for entry in entries if entry and (thumbprint := _leaked(entry.members)) is not None}
    for name, key in list(usable.items()):
        if key.thumbprint in leaked:
            # Another entry of the set contains its private part: anyone can sign with it.
            del usable[name]
            rejected.append(_reject(key, LEAKED_PRIVATE_KEY))
    return tuple(_drop_copies_without_alg(usable)), tuple(rejected)


def _parse(document: str | bytes, rules: ReadingRules) -> list[object]:
    data = document.encode() if isinstance(document, str) else document
    if len(data) > rules.max_bytes:
        raise ValueError(f"{len(data):,} bytes, at most {rules.max_bytes:,} (fetch.max_bytes)")
    max_containers = max(MAX_CONTAINERS, rules.max_bytes // _BYTES_PER_CONTAINER)
    members = parse_document(data, max_containers=max_containers, quote=not rules.local)
    entries = members.get("keys")
    if not isinstance(entries, list):
        raise ValueError(f"the document has no array `keys`{_hint_for(members)}")  # noqa: TRY004 - bad data
    return entries


def _hint_for(members: Mapping[str, object]) -> str:
    """Return a hint about what a JSON object without `keys` is."""
    if "kty" in members:
        return ': it is one JWK, and a set is {"keys": [...]}'
    if "jwks_uri" in members:
        return ": it is a discovery document, whose URL belongs in discovery_url"
    return ""


def _merge(first: Key | None, key: Key) -> Key:
    """Merge two entries with the same key id, key and `alg`: their notes, certificates and issuers."""
    if first is None:
        return key
    notes = (*first.notes, *(note for note in key.notes if note not in first.notes))
    issuers = first.issuers | key.issuers if first.issuers and key.issuers else frozenset[str]()
    return replace(first, notes=notes, certificates=first.certificates | key.certificates, issuers=issuers)


def _drop_copies_without_alg(usable: _Usable) -> Iterable[Key]:
    with_alg = {(kid, thumbprint) for kid, thumbprint, alg in usable if alg is not None}
    return (key for key in usable.values() if key.alg is not None or (key.kid, key.thumbprint) not in with_alg)


def _reject(key: Key, why: str) -> RejectedKey:
    return RejectedKey(key.kid, why, key.kty, key.crv, key.alg, thumbprint=key.thumbprint)


def _leaked(members: dict[str, object]) -> str | None:
    """Return the thumbprint of the key if its private part is among *members*, else None."""
    return thumbprint_of(public_part(members)) if publishes_private_part(members) else None


def _read_kid(members: Mapping[str, object]) -> str | None:
    value = members.get("kid")
    kid = str(value) if type(value) is int else _read_text(members, "kid")  # for the operator only: the key is rejected
    if kid is not None and len(kid) > MAX_KID_CHARS:
        raise ValueError(f"a key id of {len(kid)} characters, at most {MAX_KID_CHARS}")
    return kid


def _read_text(members: Mapping[str, object], member: str) -> str | None:
    value = members.get(member)
    return value if isinstance(value, str) else None
