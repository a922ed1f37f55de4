"""The core against the examples of the standards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from jwcrypto.jwk import JWK
from jwt import PyJWK, PyJWS

from authz.core import base64url
from authz.core.keys import Key, KeySet, verify_signature
from authz.core.reasons import Rejected
from authz.core.token import parse_token

FILES: Final = {path.stem: json.loads(path.read_text()) for path in sorted(Path(__file__).parent.glob("*.json"))}


def entries(kind: str) -> list[Any]:
    """List the entries of one kind, each named by RFC, section and algorithm."""
    return [
        pytest.param(entry, id="-".join(filter(None, (rfc, entry["section"], entry.get("key", {}).get("alg")))))
        for rfc, document in FILES.items()
        for entry in document.get(kind, [])
    ]


def read(*keys: dict[str, Any], local: bool = False) -> KeySet:
    """Read a set of these keys."""
    return KeySet.from_json(json.dumps({"keys": keys}), local=local)


@pytest.mark.parametrize("entry", entries("tokens"))
def test_token(entry: dict[str, Any]) -> None:
    """A token of a standard verifies under its key, or is refused for the reason that stands beside it."""
    if entry["outcome"] != "verified":
        with pytest.raises(Rejected) as caught:
            parse_token(entry["token"])
        assert caught.value.reason == entry["outcome"]
        return
    token = parse_token(entry["token"])
    if entry["key"]["kty"] == "oct":
        secret = base64url.decode(entry["key"]["k"].encode())
        verify_signature(Key(None, "", "oct", None, token.alg, 8 * len(secret), JWK(**entry["key"])), token)
    else:
        assert read(entry["key"]).verify(token, [token.alg]).payload == token.payload


@pytest.mark.parametrize("entry", [e for e in entries("tokens") if e.values[0]["outcome"] == "verified"])
def test_other_payload_under_the_same_signature(entry: dict[str, Any]) -> None:
    """No example proves anything but its own payload."""
    head, _, signature = entry["token"].split(".")
    token = parse_token(f"{head}.e30.{signature}")
    bits = 8 * len(base64url.decode(entry["key"].get("n", entry["key"].get("k", "")).encode()))
    key = Key(None, "", entry["key"]["kty"], entry["key"].get("crv"), token.alg, bits, JWK(**entry["key"]))
    with pytest.raises(Rejected, match="signature"):
        verify_signature(key, token)


@pytest.mark.parametrize("entry", [e for e in entries("tokens") if e.values[0].get("key", {}).get("kty") == "oct"])
def test_published_secret_is_no_key(entry: dict[str, Any]) -> None:
    """The secrets of the standards sign whatever anyone likes: none is taken from a key file."""
    assert read(entry["key"], local=True).rejected == [(entry["key"].get("kid"), "secret is publicly known")]


@pytest.mark.parametrize("entry", entries("thumbprints"))
def test_thumbprint(entry: dict[str, Any]) -> None:
    """The thumbprint of a key is the one that the standard computes (RFC 7638 section 3)."""
    (key,) = read(entry["key"]).keys
    assert key.thumbprint == entry["thumbprint"]


@pytest.mark.parametrize("entry", entries("sets"))
def test_set(entry: dict[str, Any]) -> None:
    """Of the standards' key sets the public signature keys serve, and the others are rejected one by one."""
    keys = read(*entry["keys"])
    assert [key.kid for key in keys.keys] == entry["usable"]
    assert [kid for kid, _ in keys.rejected] == entry["rejected_keys"]


@pytest.mark.parametrize("entry", [e for e in entries("tokens") if e.values[0]["outcome"] == "verified"])
def test_vector_is_what_another_library_takes_it_for(entry: dict[str, Any]) -> None:
    """The data is sound: PyJWT, which shares no code with ours, verifies it too, where it knows the algorithm."""
    token = parse_token(entry["token"])
    if not token.alg.startswith("ML-DSA"):
        key = PyJWK(entry["key"], algorithm=token.alg)
        assert PyJWS().decode(entry["token"], key, algorithms=[token.alg]) == token.payload


def test_every_standard_is_there() -> None:
    """No file got lost, and each has what it is there for."""
    counts = {
        rfc: sum(len(entry) for kind, entry in document.items() if kind != "title") for rfc, document in FILES.items()
    }
    assert counts == {
        "rfc7515": 8,
        "rfc7517": 4,
        "rfc7519": 2,
        "rfc7520": 8,
        "rfc7638": 1,
        "rfc7797": 2,
        "rfc8037": 2,
        "rfc9964": 6,
    }
