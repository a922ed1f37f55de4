"""Proves authz.core.dpop: what real clients send is taken, and each check of RFC 9449 section 4.3 refuses alone."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.dpop import MAX_JTI_CHARS, MAX_PROOF_CHARS, Nonces, Proof, ProofRules, read_proof
from authz.core.key import thumbprint_of
from authz.core.reasons import Reason, Rejected
from tests.fixtures import ABSENT, T, signer
from tests.proofs import TOKEN, URL, key, prove, token_hash

CLIENTS: Final[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "data/dpop/clients.json").read_text("utf-8"))
RULES: Final = ProofRules()
NONCES: Final = Nonces(b"secret of all replicas", step=60)
WITH_NONCES: Final = ProofRules(nonces=NONCES)


def read(text: str | None, rules: ProofRules = RULES, now: float = T, **others: Any) -> Proof:  # noqa: ANN401
    """Read a proof that came with a request to URL, and verify its signature."""
    asked = {"token": TOKEN, "method": "GET", "urls": (URL,), **others}
    proof = read_proof(text, rules=rules, now=now, **asked)
    proof.verify()
    return proof


def refusal(text: str | None, rules: ProofRules = RULES, now: float = T, **others: Any) -> Rejected:  # noqa: ANN401
    """Return why a proof was refused."""
    with pytest.raises(Rejected) as rejected:
        read(text, rules, now, **others)
    return rejected.value


@pytest.mark.parametrize("row", CLIENTS["proofs"], ids=lambda row: f"{row['client']} {row['asked']}")
def test_proofs_of_real_clients(row: dict[str, str]) -> None:
    """What libraries sent in 2026 is taken as it came; Inrupt's clients alone name no token."""
    payload = json.loads(base64.urlsafe_b64decode(row["proof"].split(".")[1] + "=="))
    rules = ProofRules(require_ath=not row["client"].startswith("@inrupt"))
    proof = read(row["proof"], rules, now=payload["iat"] + 5, token=CLIENTS["token"], urls=(row["asked"],))
    assert proof.until == payload["iat"] + 300


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519"])
def test_each_algorithm(algorithm: str) -> None:
    """What clients and servers offer beside ES256."""
    assert read(prove(key(algorithm))).thumbprint == thumbprint_of(dict(key(algorithm).public()))


def test_what_stands_beside_the_key_is_ignored() -> None:
    """Nimbus sends the members of the caller's key, others `ext` and `key_ops`; `alg` has to agree."""
    jwk = {**key().public(), "use": "sig", "key_ops": ["sign"], "ext": True, "kid": "k"}
    read(prove(header={"jwk": jwk}))
    read(prove(header={"jwk": {**jwk, "use": "enc"}}))
    assert "alg" in refusal(prove(header={"jwk": {**jwk, "alg": "ES384"}})).detail


@pytest.mark.parametrize("typ", ["dpop+jwt", "DPoP+JWT", "application/dpop+jwt"])
def test_type(typ: str) -> None:
    """RFC 7515 section 4.1.9: in any case, with or without the prefix."""
    read(prove(header={"typ": typ}))


WRONG: Final = {
    "none at all": (None, "no DPoP header"),
    "two, joined by Envoy": (f"{prove()},{prove()}", "more than one"),
    "not a token": ("proof", "three segments"),
    "too long": (prove(jti="x" * MAX_PROOF_CHARS), "at most"),
    "payload is no object": (key().sign_bytes(b"[]", header=b'{"alg":"ES256","typ":"dpop+jwt"}'), "payload"),
    "an access token": (prove(header={"typ": "at+jwt"}), "typ"),
    "no type": (prove(header={"typ": ABSENT}), "typ"),
    "symmetric": (prove(header={"alg": "HS256"}), "alg is not allowed"),
    "none": (prove(header={"alg": "none"}), "alg is not allowed"),
    "alg of another key": (prove(header={"alg": "RS256"}), "fit the key"),
    "no key": (prove(header={"jwk": ABSENT}), "missing, or not an object"),
    "key by name": (prove(header={"jwk": "k"}), "missing, or not an object"),
    "private key": (prove(header={"jwk": {**key().public(), "d": "AQ"}}), "not a public key"),
    "secret": (prove(header={"jwk": {"kty": "oct", "k": "AQ"}}), "not a public key"),
    "short RSA key": (prove(header={"alg": "RS256", "jwk": {"kty": "RSA", "n": "wQ", "e": "AQAB"}}), "jwk: "),
    "point off the curve": (prove(header={"jwk": {**key().public(), "y": "A" * 43}}), "jwk: "),
    "huge header": (prove(header={"jwk": {"kty": "EC"}, "x": "y" * 2000}), "jwk: "),
    "another method": (prove(htm="POST"), "htm"),
    "method in lower case": (prove(htm="get"), "htm"),
    "no method": (prove(htm=ABSENT), "htm"),
    "another URL": (prove(htu="https://api.test/b"), "htu"),
    "URL of the inner hop": (prove(htu="http://api.test/a"), "htu"),
    "no URL": (prove(htu=ABSENT), "htu"),
    "another token": (prove(ath=token_hash("other")), "ath is of another"),
    "no token": (prove(ath=ABSENT), "ath is missing"),
    "token as it is": (prove(ath=TOKEN), "ath is of another"),
    "no id": (prove(jti=ABSENT), "jti"),
    "empty id": (prove(jti=""), "jti"),
    "id is a number": (prove(jti=7), "jti"),
    "long id": (prove(jti="x" * (MAX_JTI_CHARS + 1)), "jti"),
    "no time": (prove(iat=ABSENT), "iat is missing"),
    "time as text": (prove(iat=str(T)), "NumericDate"),
    "time is true": (prove(iat=True), "NumericDate"),
    "milliseconds": (prove(iat=T * 1000), "NumericDate"),
    "old": (prove(iat=T - 300), "300 s ago"),
    "from the future": (prove(iat=T + 30.5), "ahead"),
    "expired": (prove(exp=T - 30), "expired"),
    "not yet valid": (prove(nbf=T + 31), "nbf"),
    "a nonce of somebody else": (prove(nonce="n"), "nonce is not one of ours"),
    "signature of another key": (
        prove()[:-86] + signer("ES256", "other").sign_bytes(b"{}", header=b'{"alg":"ES256"}')[-86:],
        "signature does not verify",
    ),
}


@pytest.mark.parametrize(("text", "detail"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_proof(text: str | None, detail: str) -> None:
    """One fault, one refusal, always of the proof and not of the token."""
    rejected = refusal(text)
    assert rejected.reason is Reason.PROOF_INVALID
    assert detail in rejected.detail


@pytest.mark.parametrize(
    "claims", [{"iat": T - 299.5}, {"iat": T + 30}, {"exp": T - 29.5}, {"nbf": T + 30}, {"iss": 1}]
)
def test_a_proof_just_in_time(claims: dict[str, Any]) -> None:
    """Fractions count, and other claims do not."""
    read(prove(**claims))


def test_a_client_may_name_no_token_where_that_is_allowed() -> None:
    """A proof that names a token must name the one it came with, all the same."""
    loose = ProofRules(require_ath=False)
    read(prove(ath=ABSENT), loose)
    assert "another token" in refusal(prove(ath=token_hash("other")), loose).detail


def test_only_the_algorithms_that_are_allowed() -> None:
    """The operator's list counts."""
    assert "alg is not allowed" in refusal(prove(), replace(RULES, algorithms=frozenset({"Ed25519"}))).detail


def test_a_replay_has_the_key_of_the_first() -> None:
    """The same id under the same key is the same proof, whenever it was made; another key's is another."""
    first, again, other = read(prove()), read(prove(iat=T + 1)), read(prove(key("Ed25519")))
    assert first.replay_key == again.replay_key
    assert first.replay_key != other.replay_key != read(prove(jti="another id")).replay_key


def test_secrets_are_not_shown() -> None:
    """A proof in a log is one that can be sent again."""
    assert prove()[:20] not in repr(read(prove()))
    assert "secret" not in repr(NONCES)


def test_urls_by_which_clients_ask() -> None:
    """Behind a TLS terminator only the operator knows the origin."""
    assert RULES.urls("api.test:8443", "/a?b") == ("https://api.test:8443/a?b",)
    origins = ProofRules(origins=("https://outside.test", "http://localhost:8000"))
    assert origins.urls("inside", "/a") == ("https://outside.test/a", "http://localhost:8000/a")


# Nonces


def test_a_stale_proof_is_answered_with_a_nonce() -> None:
    """That repairs clients whose clock is wrong: the next proof has the nonce, and its time does not matter."""
    rejected = refusal(prove(iat=T - 4000), WITH_NONCES)
    assert (rejected.reason, rejected.nonce) == (Reason.NONCE_REQUIRED, NONCES.current(T))
    assert read(prove(iat=T - 4000, nonce=rejected.nonce), WITH_NONCES).until == T + 120


def test_other_faults_are_answered_without_a_nonce() -> None:
    """Some clients send their request again whenever they are given a nonce."""
    assert refusal(prove(htm="POST"), WITH_NONCES).nonce is None


def test_a_fresh_proof_needs_no_nonce_unless_all_do() -> None:
    """They cost clients a request."""
    assert read(prove(), WITH_NONCES).until == T + 300
    rejected = refusal(prove(), replace(WITH_NONCES, require_nonce=True))
    assert (rejected.reason, rejected.detail) == (Reason.NONCE_REQUIRED, "nonce is missing")
    read(prove(nonce=NONCES.current(T)), replace(WITH_NONCES, require_nonce=True))


@pytest.mark.parametrize("nonce", ["", "ü", 7, "x" * 22, Nonces(b"other", step=60).current(T), NONCES.current(T - 180)])
def test_a_nonce_that_is_not_ours_is_never_ignored(nonce: object) -> None:
    """Otherwise a proof of a client whose clock is ahead could be sent again once its time has come."""
    assert refusal(prove(nonce=nonce), WITH_NONCES).reason is Reason.NONCE_REQUIRED


@pytest.mark.parametrize("ahead", [-60, 0, 60])
def test_a_nonce_serves_in_its_step_and_beside_it(ahead: int) -> None:
    """Replicas differ in time by less than a step; the value is the same within one."""
    nonce = NONCES.current(T)
    assert nonce == NONCES.current(T + 59) != NONCES.current(T + 60)
    assert NONCES.expiry(nonce, T + ahead) == T + 120
    assert NONCES.expiry(nonce, T - 61) is None
    assert NONCES.expiry(nonce, T + 120) is None


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_no_text_raises_anything_else(text: str) -> None:
    """A proof is a stranger's text."""
    with pytest.raises(Rejected):
        read(text, WITH_NONCES)


@given(
    st.dictionaries(
        st.sampled_from(["iat", "exp", "nbf", "jti", "htu", "htm", "ath", "nonce"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
        | st.lists(st.none()),
    )
)
def test_no_claim_raises_anything_else(claims: dict[str, Any]) -> None:
    """Nor does a proof that another key signed."""
    with suppress(Rejected):
        read(prove(**claims), WITH_NONCES)
