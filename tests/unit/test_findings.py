"""Proves that findings/ is in order, and that what surprised us elsewhere is done right here."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from authz.core.conditions import EvaluationError
from authz.core.keys import KeySet
from authz.core.token import HeaderSource, find_token, parse_token
from tests.fixtures import A_EC, ask, changed, jwks, mint, signer
from tests.tools import ROOT
from tests.unit.core.test_conditions import holds
from tests.unit.core.test_identity import TEXT, write

FINDINGS = ROOT / "findings"
SCRIPTS = sorted(path for path in FINDINGS.glob("*.sh") if path.name != "lib.sh")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_finding_says_what_was_expected_and_seen(script: Path) -> None:
    """Its head comment says both, it pins what it installs, it can be run, and the page has it once."""
    text = script.read_text()
    assert re.search(r"^# Expected: ", text, re.MULTILINE)
    assert re.search(r"^# Seen: ", text, re.MULTILINE)
    assert not re.search(r"(?:/usr|/root|/home|/tmp)/", text.removeprefix("#!/usr/bin/env bash"))
    assert os.access(script, os.X_OK)
    assert (FINDINGS / "README.md").read_text().count(f"]({script.name})") == 1


def test_the_page_names_only_what_is_there() -> None:
    """Each line of the page has its script."""
    named = re.findall(r"^- \[[\w-]+\]\(([\w-]+\.sh)\)", (FINDINGS / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == [script.name for script in SCRIPTS]


NEIGHBOURS = {
    "a key type of tomorrow": {"kty": "NEW", "kid": "next"},
    "ML-DSA": signer("ML-DSA-44", "next").public(),
    "Brainpool": {"kty": "EC", "crv": "BP-256", "kid": "next", "x": "A" * 43, "y": "A" * 43},
}


@pytest.mark.parametrize("neighbour", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_one_key_does_not_take_the_others_away(neighbour: dict[str, object]) -> None:
    """A key that other libraries refuse a whole set for leaves the keys beside it in use."""
    keys = KeySet.from_json(jwks(neighbour, A_EC))
    assert keys.verify(parse_token(mint(A_EC)), ["ES256"]).payload


def test_a_key_of_a_spiffe_bundle_verifies() -> None:
    """`use: jwt-svid` is a use for signatures."""
    keys = KeySet.from_json(jwks(changed(A_EC.public(), {"use": "jwt-svid"})))
    assert keys.verify(parse_token(mint(A_EC)), ["ES256"]).payload


def test_an_ed25519_key_by_either_name() -> None:
    """RFC 9864's name and RFC 8037's are names of one algorithm, in the key and in the configuration."""
    key = signer("Ed25519", "ed")
    keys = KeySet.from_json(jwks(changed(key.public(), {"alg": "Ed25519"})))
    assert keys.verify(parse_token(mint(key)), ["Ed25519", "EdDSA"]).payload


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_is_found_behind_its_scheme_in_any_case(scheme: str) -> None:
    """Schemes are case-insensitive (RFC 9110 section 11.1)."""
    assert find_token(ask(headers={"authorization": f"{scheme} t"}), (HeaderSource("authorization", "Bearer"),))


@pytest.mark.parametrize("number", [-5, 0.1, 9007199254740993, 18446744073709551615])
def test_a_number_keeps_its_digits_in_a_header(number: float) -> None:
    """A claim goes upstream as the issuer wrote it."""
    assert write(TEXT, number) == str(number)


def test_conditions_follow_the_runtime_that_the_page_names() -> None:
    """What findings/ says of cel-expr-python is what a rule gets, and an error never decides."""
    assert holds("duration('1.5s').getMilliseconds() == 500 && duration('1.5s') > duration('1s')")
    assert holds("string(timestamp('2024-01-01T00:00:00+02:00')) == '2023-12-31T22:00:00Z'")
    for text in (
        "'b' in claims.sub",
        "!('x' in claims.sub)",
        "int('1_000') == 1000",
        "duration('1d') > duration('1h')",
    ):
        with pytest.raises(EvaluationError):
            holds(text)
