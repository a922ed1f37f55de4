"""Proves that a file which is there and cannot serve is an error of the configuration, and a missing one a warning."""

from __future__ import annotations

import json
import os
from contextlib import chdir
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from authz.cli import main
from authz.feeds.file_checks import check_files, warn_of_files
from tests.fixtures import A_RSA, ABSENT, changed
from tests.unit.config.sample import configure, small
from tests.unit.feeds.rig import K1, K2, document


def faults(issuer: str) -> list[str]:
    """Check the files of an issuer."""
    return [str(problem) for problem in check_files(configure(issuer=issuer))]


def doubts(issuer: str) -> list[str]:
    """Return what the author of such an issuer should know of its files."""
    return [str(problem) for problem in warn_of_files(configure(issuer=issuer))]


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The certificate of an authority."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


def test_good_files(tmp_path: Path, ca: Path) -> None:
    """What the feeds could use is no problem."""
    token, keys = tmp_path / "token", tmp_path / "keys.json"
    token.write_text("a.b.c\n")
    keys.write_bytes(document(K1))
    for issuer in (f"fetch: {{ca_file: {ca}, bearer_token_file: {token}}}", f"jwks_file: {keys}"):
        assert (faults(issuer), doubts(issuer)) == ([], [])


@pytest.mark.parametrize(
    ("key", "content", "why"),
    [
        ("ca_file", b"", "contains no PEM certificate"),
        ("ca_file", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "contains no PEM certificate"),
        ("bearer_token_file", b"two words", "does not contain exactly one token"),
        ("bearer_token_file", b"", "does not contain exactly one token"),
        ("proxy: 'http://p.test', proxy_credentials_file", b"password", "does not contain user:password"),
    ],
)
def test_files_that_cannot_serve(key: str, content: bytes, why: str, tmp_path: Path) -> None:
    """The error names the key, the file and what is wrong, and nothing that it holds."""
    file = tmp_path / "file"
    file.write_bytes(content)
    named = key.rpartition(" ")[2]
    assert faults(f"fetch: {{{key}: {file}}}") == [f"issuers.corporate.fetch.{named}: {file}: {why}"]


def test_client_certificate(tmp_path: Path) -> None:
    """The pair is tried together, once both are there; each that is missing is a warning of its own."""
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    pair = f"fetch: {{client_cert_file: {cert}, client_key_file: {key}}}"
    assert faults(pair) == []
    assert [doubt.partition(": ")[0] for doubt in doubts(pair)] == [
        "issuers.corporate.fetch.client_cert_file",
        "issuers.corporate.fetch.client_key_file",
    ]
    issued = trustme.CA().issue_cert("authz@client.test")
    issued.cert_chain_pems[0].write_to_path(str(cert))
    assert faults(pair) == []
    issued.private_key_pem.write_to_path(str(key))
    assert (faults(pair), doubts(pair)) == ([], [])
    trustme.CA().issue_cert("other@client.test").private_key_pem.write_to_path(str(key))
    why = f"{cert}: does not match the key in fetch.client_key_file {key}"
    assert faults(pair) == [f"issuers.corporate.fetch.client_cert_file: {why}"]
    key.unlink()
    os.mkfifo(key)
    assert faults(pair) == [f"issuers.corporate.fetch.client_key_file: {key}: is not a file"]


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"{}", "the document has no array `keys`"), (b'{"keys":[{}]}', "no usable key: kty is missing or not a string")],
)
def test_key_file_that_cannot_serve(content: bytes, why: str, tmp_path: Path) -> None:
    """A key file is evaluated as the feed evaluates it."""
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    assert faults(f"jwks_file: {file}") == [f"issuers.corporate.jwks_file: {file}: {why}"]
    assert doubts(f"jwks_file: {file}") == []


@pytest.mark.parametrize("key", ["ca_file", "bearer_token_file"])
def test_what_is_no_file(key: str, tmp_path: Path) -> None:
    """A folder, and a pipe that no one writes to, are reported at once."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert faults(f"fetch: {{{key}: {path}}}") == [f"issuers.corporate.fetch.{key}: {path}: is not a file"]


def test_file_in_a_folder_that_is_a_loop(tmp_path: Path) -> None:
    """What cannot be looked at is there, and an error."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    [fault] = faults(f"fetch: {{ca_file: {tmp_path}/loop}}")
    assert fault.endswith("loop: Too many levels of symbolic links")


@pytest.mark.parametrize(
    ("issuer", "key"),
    [
        ("fetch: {{ca_file: {file}}}", "fetch.ca_file"),
        ("fetch: {{bearer_token_file: {file}}}", "fetch.bearer_token_file"),
        ("jwks_file: {file}", "jwks_file"),
    ],
)
@pytest.mark.parametrize("name", ["nowhere", "ca.pem/below-a-file"])
def test_missing_file_is_a_warning(issuer: str, key: str, name: str, tmp_path: Path, ca: Path) -> None:
    """A configuration is checked where its secrets are not."""
    file = tmp_path / name
    written = issuer.format(file=file)
    assert faults(written) == []
    [doubt] = doubts(written)
    assert doubt.startswith(f"issuers.corporate.{key}: {file} was not found, and not checked")


@pytest.mark.parametrize(
    ("issuer", "key"),
    [
        ("fetch: {ca_file: a/file}", "fetch.ca_file"),
        ("fetch: {bearer_token_file: a/file}", "fetch.bearer_token_file"),
        ("jwks_file: a/file", "jwks_file"),
    ],
)
def test_relative_names_are_told_whole(issuer: str, key: str, tmp_path: Path) -> None:
    """A name is one of the working directory, wherever the configuration lies; the message says where that was."""
    with chdir(tmp_path):
        [doubt] = doubts(issuer)
        (tmp_path / "a" / "file").mkdir(parents=True)
        [fault] = faults(issuer)
    file = tmp_path / "a" / "file"
    assert doubt.startswith(f"issuers.corporate.{key}: {file} was not found")
    assert fault == f"issuers.corporate.{key}: {file}: is not a file"


def test_files_that_are_not_read_are_not_checked() -> None:
    """Where the keys stand in the configuration nothing is fetched."""
    issuer = "jwks: {keys: []}\n    fetch: {ca_file: /nowhere, bearer_token_file: /nowhere}"
    assert (faults(issuer), doubts(issuer)) == ([], [])


def test_keys_of_a_key_file_that_serve_nothing(tmp_path: Path) -> None:
    """Set aside by mistake, of a type that is not asked for, or blocked by a name that no key has.

    A key for encryption is no mistake.
    """
    file = tmp_path / "keys.json"
    plain = changed(A_RSA.public(), {"alg": ABSENT})
    file.write_bytes(document(K1, {**K2.public(), "use": "enc"}, {**K2.public(), "y": "AA"}, plain))
    found = doubts(f"jwks_file: {file}\n    algorithms: [ES256]\n    blocked_keys: [ahead]")
    idle = "none of the issuer's algorithms is for a key of type RSA"
    assert [doubt.removeprefix("issuers.corporate.jwks_file: ") for doubt in found] == [
        "the key 'k2' is not used: the key's numbers are not a valid public key",
        f"the key 'a-rsa' is not used: {idle}",
        "'ahead' in blocked_keys is not the kid or thumbprint of a key in it",
    ]


def test_check_config_tells_the_line(tmp_path: Path) -> None:
    """`authz check-config` ends with 2 for a file that cannot serve, and with 0 for one that is not there."""
    config, file = tmp_path / "authz.yaml", tmp_path / "ca.pem"
    config.write_text(small(issuer=f"fetch: {{ca_file: {file}}}"))
    missing = CliRunner().invoke(main, ["check-config", str(config)])
    assert missing.exit_code == 0
    assert f"{config}:6: warning: issuers.corporate.fetch.ca_file: {file} was not found" in missing.stderr
    file.write_text("junk")
    broken = CliRunner().invoke(main, ["check-config", str(config)])
    assert (broken.exit_code, broken.stderr) == (
        2,
        f"{config}:6: issuers.corporate.fetch.ca_file: {file}: contains no PEM certificate\n",
    )


def test_secret_that_is_set_aside_is_not_repeated(tmp_path: Path) -> None:
    """A key file may hold secrets; no message does."""
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}]}))
    [fault] = faults(f"jwks_file: {file}")
    assert "c2VjcmV0" not in fault


@pytest.mark.parametrize(
    ("key", "content", "why"),
    [
        ("id: a, secret_file", " \n", "is empty or no text"),
        ("id: a, private_key_file", "junk", "is neither an unencrypted private key in PEM nor a JWK"),
        ("bearer_token_file", "two words", "does not contain exactly one token"),
    ],
)
def test_what_proves_who_asks_is_tried_too(key: str, content: str, why: str, tmp_path: Path) -> None:
    """A missing secret of introspection is a warning, and one that cannot serve an error, as for fetches."""
    file = tmp_path / "file"
    issuer = f"introspection: {{client: {{{key}: {file}}}}}"
    (doubt,) = doubts(issuer)
    assert "was not found, and not checked (without it, its tokens cannot be introspected)" in doubt
    file.write_text(content)
    (fault,) = faults(issuer)
    assert why in fault
    assert "junk" not in fault


def test_files_of_pdps_are_tried_too(tmp_path: Path) -> None:
    """A missing token is a warning, and one that cannot serve an error."""
    file = tmp_path / "file"
    more = f"pdps: {{p: {{url: 'https://pdp.test/access/v1/evaluation', basic_credentials_file: {file}}}}}\n"
    config = configure(more=more)
    (doubt,) = map(str, warn_of_files(config))
    assert "pdps.p.basic_credentials_file" in doubt
    assert "without it, this PDP cannot be asked" in doubt
    file.write_text("junk")
    (fault,) = map(str, check_files(config))
    assert "does not contain user:password" in fault
    assert "junk" not in fault


def test_files_of_the_token_for_the_upstream(tmp_path: Path) -> None:
    """What is missing is a warning that says what it costs; a key that cannot be read is an error, without its text."""
    (tmp_path / "key.pem").write_text("geheim")
    keys = f"disk: {{kind: file, file: {tmp_path}/key.pem}}"
    keys += ", hsm: {kind: pkcs11, module: /no/module.so, token: t, pin_file: /no/pin, key: k}"
    minted = "identity: {token: {audience: [a], issuer: 'https://us.test'}}\n"
    config = configure(more=f"{minted}signing: {{keys: {{{keys}}}}}\n")
    [error] = map(str, check_files(config))
    assert error.startswith(f"signing.keys.disk.file: {tmp_path}/key.pem: ")
    assert "geheim" not in error
    assert [str(problem).partition(" was")[0] for problem in warn_of_files(config)] == [
        "signing.keys.hsm.module: /no/module.so",
        "signing.keys.hsm.pin_file: /no/pin",
    ]
    client = "{id: gw, secret_file: /no/secret}"
    exchanged = configure(
        more=f"identity: {{token: {{audience: [a], exchange: {{issuer: corporate, client: {client}}}}}}}\n"
    )
    [missing] = map(str, warn_of_files(exchanged))
    assert missing.endswith("was not found, and not checked (without it, no token is exchanged)")
