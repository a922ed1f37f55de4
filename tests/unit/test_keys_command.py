"""Proves `/keys` and `authz keys`: whom they answer, and that nothing that an issuer chose speaks to the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from authz.admin import AdminServer, is_loopback
from authz.cli import main
from authz.config.address import TcpAddress
from authz.core.keys import KeySet
from authz.demo.signing import SigningKey
from authz.feeds.report import describe_keys
from authz.feeds.usage import Usage
from tests.unit.feeds.rig import K1, document
from tests.world import A, world

EVIL = "\x1b[2J[bold]\nkid"
IDLE = SigningKey.create("ES384").public()


def described() -> Mapping[str, object]:
    """Describe a set with a key id that would like to clear the screen."""
    published = document({**K1.public(), "kid": EVIL}, {"kty": "x", "kid": EVIL + "2"}, {**IDLE, "kid": EVIL + "3"})
    keys = KeySet.from_json(published).block([EVIL + "4"])
    snapshot = world()
    issuer = snapshot.issuers[A]
    return describe_keys(
        world(a=type(issuer)(issuer.name, issuer.algorithms, issuer.rules, keys)), {}, Usage(lambda: 0)
    )


@pytest.fixture
def admin() -> Iterator[str]:
    """The URL of an admin listener."""
    server = AdminServer(TcpAddress("127.0.0.1", 0), waiting_for=list, registry=CollectorRegistry(), keys=described)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def test_table(admin: str) -> None:
    """Issuers, keys and rejected keys, printable whatever an issuer wrote."""
    done = CliRunner().invoke(main, ["keys", "--admin", admin])
    assert done.exit_code == 0, done.output
    assert f"a: {A}" in done.output
    assert "configuration" in done.output
    assert "set aside" in done.output
    assert "its alg ES384 is not among the issuer's algorithms" in done.output
    assert "no key has this kid or thumbprint" in done.output
    assert "\x1b" not in done.output
    assert "\\x1b[2J[bold]" in done.output.replace("\n", "")


def test_json(admin: str) -> None:
    """The same as JSON, to the letter."""
    done = CliRunner().invoke(main, ["keys", "--admin", admin, "--json"])
    assert json.loads(done.output) == described()
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    ("url", "code"),
    [("http://127.0.0.1:1", 1), ("https://127.0.0.1", 2), ("nonsense", 2), ("http://127.0.0.1:99999", 2)],
)
def test_no_sidecar(url: str, code: int) -> None:
    """Where none answers, the exit code says so, and tells it from what is no address."""
    done = CliRunner().invoke(main, ["keys", "--admin", url])
    assert done.exit_code == code
    assert url in done.output


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),  # noqa: S104 - a peer to refuse
    ],
)
def test_only_this_host_is_answered(address: str, *, loopback: bool) -> None:
    """`/keys` is for loopback peers."""
    assert is_loopback(address) is loopback
