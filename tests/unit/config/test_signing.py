"""Proves what the configuration of a signing key must and must not have."""

from __future__ import annotations

from typing import Final

import pytest

from tests.unit.config.sample import configure, problems, small

HSM: Final = "kind: pkcs11, module: /m.so, token: authz, pin_file: /pin"
VERSION: Final = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
VAULT: Final = "https://acme.vault.azure.net/keys/authz"


def signing(*keys: str) -> str:
    """Write the smallest configuration, with these signing keys."""
    return small(more="signing: {keys: {" + ", ".join(keys) + "}}\n")


@pytest.mark.parametrize(
    "key",
    [
        "kind: memory",
        "kind: memory, algorithm: ML-DSA-65",
        "kind: file, file: /key.pem, kid: ours",
        "kind: file, file: /key.pem, algorithm: PS256",
        f"{HSM}, key: signing",
        f"{HSM}, key: signing, key_id: 0aFF, algorithm: ES256",
        "kind: aws_kms, key: 1234abcd-12ab-34cd-56ef-1234567890ab, region: eu-central-1",
        "kind: aws_kms, key: mrk-1234abcd12ab34cd56ef1234567890ab",
        "kind: aws_kms, key: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'",
        "kind: aws_kms, key: 'arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/authz/signing'",
        "kind: aws_kms, key: alias/authz, endpoint: 'https://kms.internal:8443'",
        f"kind: google_kms, key: {VERSION}, endpoint: 'kms.internal:443'",
        f"kind: azure_key_vault, key: '{VAULT}/0123456789abcdef0123456789abcdef', algorithm: ES256",
    ],
)
def test_keys(key: str) -> None:
    """A key may be this."""
    configure(more=f"signing: {{keys: {{main: {{{key}}}}}}}\n")


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("kind: file", "main: kind file needs file"),
        ("kind: pkcs11, key: k", "main: kind pkcs11 needs module"),
        ("kind: memory, pin_file: /pin", "main.pin_file: is not for kind memory"),
        (f"kind: google_kms, key: {VERSION}, region: eu", "main.region: is not for kind google_kms"),
        ("kind: memory, algorithm: HS256", "main.algorithm: is symmetric (the upstream must not be able to sign)"),
        ("kind: memory, algorithm: ES265", "main.algorithm: unknown algorithm 'ES265' (did you mean `ES256`?)"),
        ("kind: aws_kms, key: alias/a, algorithm: Ed448", "main.algorithm: kind aws_kms signs by RS256, "),
        ("kind: memory, kid: 'a b'", "main.kid: must be 1 to 128 visible ASCII characters"),
        (f"{HSM}, key: k, key_id: abc", "main.key_id: must be hexadecimal"),
        ("kind: aws_kms, key: authz", "main.key: must be an ARN, the id of a key, or alias/NAME"),
        ("kind: aws_kms, key: alias/a, endpoint: 'http://kms.internal'", "main.endpoint: must begin with https://"),
        (
            "kind: google_kms, key: projects/p/locations/l/keyRings/r/cryptoKeys/k",
            "main.key: must be projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/V",
        ),
        (f"kind: google_kms, key: {VERSION}, endpoint: 'https://kms'", "main.endpoint: must be host:port"),
        (f"kind: azure_key_vault, key: '{VAULT}'", "main.key: must be https://VAULT/keys/NAME/VERSION"),
    ],
)
def test_keys_that_could_never_sign(key: str, problem: str) -> None:
    """Each is refused with its place and the cause."""
    assert f"signing.keys.{problem}" in "\n".join(problems(signing(f"main: {{{key}}}")))


def test_one_kid_is_one_key() -> None:
    """Readers select a key by its id: two keys of one id could not be told apart."""
    [problem] = problems(signing("a: {kind: file, file: /a, kid: x}", "b: {kind: file, file: /b, kid: x}"))
    assert problem.endswith("signing.keys.b.kid: is the kid of 'a' too")
    assert problems(signing("a: {kind: file, file: /a}", "b: {kind: file, file: /b}")) == []


def test_names_and_their_number() -> None:
    """Names are labels of metrics: few, and in lower case."""
    assert "the name must be in lower case" in "\n".join(problems(signing("Main: {kind: memory}")))
    many = [f"k{number}: {{kind: file, file: /k}}" for number in range(17)]
    assert problems(signing(*many[:16])) == []
    assert "has 17 keys, at most 16" in "\n".join(problems(signing(*many)))
