"""Proves authz.config.checks.shared_state: what cannot be connected to, or not safely, is refused in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.config.diagnostics.warnings import count_insecure, warnings
from authz.feeds.file_checks import check_files, warn_of_files
from tests.unit.config.sample import configure, problems, small


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("url: rediss://valkey.example.com", ""),
        ("url: 'valkeys://[2001:db8::1]:6380/15', client_cert_file: /a, client_key_file: /b", ""),
        ("url: redis://127.0.0.1:6379/0, password_file: /secret", ""),
        ("url: valkey://valkey.svc, insecure: {plaintext: true}", ""),
        ("url: redis://valkey.example.com", "shared_state.url: except on loopback, it needs TLS"),
        ("url: https://valkey.example.com", "shared_state.url: must begin with rediss://"),
        ("url: 'rediss:valkey.example.com'", "shared_state.url: must begin with rediss://"),
        ("url: rediss://authz:secret@valkey.example.com", "shared_state.url: must not contain a user or password"),
        ("url: rediss://valkey.example.com/zero", "shared_state.url: must end with the number of the database"),
        ("url: 'rediss://valkey.example.com/0?ssl_cert_reqs=none'", "shared_state.url: must end with the number"),
        ("url: 'rediss://valkey.example.com:port'", "shared_state.url: must have a valid host and port"),
        ("url: 'rediss://:6379'", "shared_state.url: must have a host"),
        ("url: redis://localhost, ca_file: /ca", "shared_state.ca_file: is for TLS"),
        ("url: rediss://valkey.svc, client_cert_file: /a", "shared_state.client_cert_file: needs client_key_file"),
        ("url: rediss://valkey.svc, client_key_file: /b", "shared_state.client_key_file: needs client_cert_file"),
        ("url: rediss://valkey.svc, username: authz", "shared_state.username: needs password_file"),
        ("url: rediss://valkey.svc, prefix: ''", "shared_state.prefix: must be 1 to 64"),
        ("url: rediss://valkey.svc, prefix: '{authz}:'", "shared_state.prefix: must be 1 to 64"),
        ("url: rediss://valkey.svc, timeout: 11s", "shared_state.timeout: must be at most 10s"),
    ],
)
def test_which_servers_may_be_shared(section: str, expected: str) -> None:
    """A secret in the URL, an option of the library in its query and traffic that is not encrypted are refused."""
    found = problems(small(more=f"shared_state: {{{section}}}\n"))
    assert bool(found) == bool(expected), found
    assert any(expected in line for line in found or [""])


def test_plaintext_is_a_loosening() -> None:
    """It warns, and is counted among the insecure options."""
    config = configure(more="shared_state: {url: redis://valkey.svc, insecure: {plaintext: true}}\n")
    [warning] = warnings(config)
    assert warning.path == ("shared_state", "insecure", "plaintext")
    assert count_insecure(config) == 1


def test_its_files_are_checked(tmp_path: Path) -> None:
    """A missing one is a warning that says what it is for, one without its content an error."""
    (tmp_path / "empty").write_text("\n")
    for key in ("password_file", "ca_file"):
        text = f"shared_state: {{url: rediss://valkey.svc, {key}: {tmp_path}/FILE}}\n"
        [broken] = check_files(configure(more=text.replace("FILE", "empty")))
        assert broken.path == ("shared_state", key)
        [missing] = warn_of_files(configure(more=text.replace("FILE", "none")))
        assert (missing.path, missing.hint) == (("shared_state", key), "without it, there is no shared state")
