"""Proves `/keys` and `authz keys`: whom they answer, and that nothing that an issuer chose speaks to the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from authz.admin.routes import is_loopback, make_routes
from authz.admin.server import AdminServer
from authz.cli import main
from authz.config.address import TcpAddress
from authz.core.keys import KeySet
from authz.demo.signing import SigningKey
from authz.feeds.key_report import describe_keys
from authz.feeds.key_usage import KeyUsage
from tests.fixtures import A, make_snapshot
from tests.unit.feeds.rig import K1, document

EVIL = "\x1b[2J[bold]\nkid"
IDLE = SigningKey.create("ES384").public()


def described() -> Mapping[str, object]:
    """Describe a set with a key id that would like to clear the screen."""
    published = document(
        {**K1.public(), "kid": EVIL, "use": "SIG"}, {"kty": "x", "kid": EVIL + "2"}, {**IDLE, "kid": EVIL + "3"}
    )
    keys = KeySet.from_json(published).block([EVIL + "4"])
    snapshot = make_snapshot()
    issuer = snapshot.issuers[A]
    return describe_keys(
        make_snapshot(a=type(issuer)(issuer.name, issuer.algorithms, issuer.rules, keys)), {}, KeyUsage(lambda: 0)
    )


def make_admin(
    keys: Callable[[], Mapping[str, object]],
    refresh: Callable[[str | None], Mapping[str, object] | None] = lambda _: None,
) -> AdminServer:
    """Bind an admin listener that describes these keys."""
    routes = make_routes(waiting_for=list, registry=CollectorRegistry(), keys=keys, refresh=refresh)
    return AdminServer(TcpAddress("127.0.0.1", 0), routes)


@pytest.fixture
def admin() -> Iterator[str]:
    """The URL of an admin listener."""
    server = make_admin(described)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def test_table(admin: str) -> None:
    """Issuers, keys and rejected keys, printable whatever an issuer wrote."""
    done = CliRunner().invoke(main, ["keys", "--admin", admin])
    assert done.exit_code == 0, done.output
    assert f"a: {A}" in done.output
    assert "configuration" in done.output
    assert "rejected  " in done.output
    assert "its alg ES384 is not among the issuer's algorithms" in done.output
    assert "a blocked key that is not in the set" in done.output
    assert "\x1b" not in done.output
    (row,) = [line for line in done.output.splitlines() if line.strip().startswith("\\x1b[2J[bold]\\x0akid ")]
    assert str(K1.public()["crv"]) in row


def test_refresh() -> None:
    """An operator in an incident has keys fetched, waits for the end of it, and sees what came of it."""
    asked: list[str | None] = []
    looks = [True, True, False]  # whether the refresh is under way; the last one stays

    def refresh(name: str | None) -> Mapping[str, object] | None:
        asked.append(name)
        return None if name == "nobody" else {"issuers": ["a"]}

    def keys() -> Mapping[str, object]:
        told = json.loads(json.dumps(described()))
        told["issuers"][0]["refreshing"] = looks.pop(0) if len(looks) > 1 else looks[0]
        return dict(told)

    server = make_admin(keys, refresh)
    server.start()
    try:
        where = ["keys", "--admin", f"http://127.0.0.1:{server.port}", "--refresh"]
        one, none, every = (CliRunner().invoke(main, [*where, name]) for name in ("a", "nobody", "all"))
    finally:
        server.stop()
    assert (one.exit_code, every.exit_code, none.exit_code) == (0, 0, 1)
    assert f"a: {A}" in one.output
    assert looks == [False]
    assert "nothing is fetched for an issuer 'nobody'" in none.output
    assert asked == ["a", "nobody", None]


def test_json(admin: str) -> None:
    """The same as JSON, to the letter."""
    done = CliRunner().invoke(main, ["keys", "--admin", admin, "--json"])
    assert json.loads(done.output) == described()
    assert "\x1b" not in done.output


NAMED: Final = SigningKey.create("ES256")
NAMED_BY_ITSELF: Final = {**NAMED.public(), "kid": NAMED.jwk.thumbprint()}


def shown(*published: object, seen: timedelta | None = None) -> list[list[str]]:
    """Return the table that is printed for these keys: the words of its head, and those of each key."""
    keys = KeySet.from_json(document(*published))
    issuer = make_snapshot().issuers[A]
    of = describe_keys(
        make_snapshot(a=type(issuer)(issuer.name, issuer.algorithms, issuer.rules, keys)), {}, KeyUsage(lambda: 0)
    )
    told = json.loads(json.dumps(of))
    for key in told["issuers"][0]["keys"]:
        key["first_seen"] = None if seen is None else (datetime.now(UTC) - seen).isoformat(timespec="seconds")
    server = make_admin(lambda: told)
    server.start()
    try:
        done = CliRunner().invoke(main, ["keys", "--admin", f"http://127.0.0.1:{server.port}"])
    finally:
        server.stop()
    lines = [re.split(r"\s{2,}", line.strip()) for line in done.output.splitlines()]
    head = next(place for place, line in enumerate(lines) if line[0] == "kid")
    return [lines[head], *lines[head + 2 : head + 2 + len(keys.keys)]]


def test_a_thumbprint_that_is_the_kid_is_not_repeated() -> None:
    """Where every key is named by its thumbprint there is no second column; where one is, it says so."""
    kid = NAMED_BY_ITSELF["kid"]
    assert shown(NAMED_BY_ITSELF) == [
        ["kid", "key", "alg", "first seen", "last used"],
        [kid, "EC P-256", "ES256", "-", "-"],
    ]
    head, first, second = shown(NAMED_BY_ITSELF, K1)
    assert head[:2] == ["kid", "thumbprint"]
    assert (first[:2], second[:2]) == ([kid, "the kid"], ["k1", K1.jwk.thumbprint()])


def test_a_column_of_times_is_short() -> None:
    """How long ago something was, and not when; a clock that is behind the sidecar's makes no future."""
    ages = [shown(NAMED_BY_ITSELF, seen=timedelta(days=days))[1][3] for days in (9.5, -1)]
    assert ages == ["10 d ago", "now"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - who listens everywhere is found here
def test_a_configuration_says_where(admin: str, host: str, tmp_path: Path) -> None:
    """The admin listener of the configuration is asked, on this host."""
    done = CliRunner().invoke(main, ["keys", "--config", configure(tmp_path, f"{host}:{admin.rpartition(':')[2]}")])
    assert done.exit_code == 0, done.output
    assert f"a: {A}" in done.output


def test_a_configuration_that_does_not_say_where(tmp_path: Path) -> None:
    """A port that the system chooses stands in no file."""
    done = CliRunner().invoke(main, ["keys", "--config", configure(tmp_path, "127.0.0.1:0")])
    assert (done.exit_code, "give --admin" in done.output) == (2, True)


def configure(folder: Path, listen: str) -> str:
    """Write a configuration whose admin port listens there."""
    file = folder / "authz.yaml"
    file.write_text(
        "version: 1\n"
        f'admin: {{listen: "{listen}"}}\n'
        "issuers: {a: {issuer: 'https://a.test', audiences: [api]}}\n"
        "rules: [{name: all}]\n",
        encoding="utf-8",
    )
    return str(file)


@pytest.mark.parametrize(
    ("url", "code"),
    [("http://127.0.0.1:1", 1), ("https://127.0.0.1", 2), ("nonsense", 2), ("http://127.0.0.1:99999", 2)],
)
def test_no_sidecar(url: str, code: int) -> None:
    """Where none answers, the exit code says so, and differs from that of an invalid address."""
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


def test_a_key_is_named_as_it_is_blocked() -> None:
    """A key id and a thumbprint that look like a token are shown to the letter: they are copied into blocked_keys."""
    like_a_token = "FDY-5ZOeyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ"
    head, cells = shown({**K1.public(), "kid": like_a_token})
    assert cells[0] == like_a_token
    assert cells[head.index("thumbprint")] == K1.jwk.thumbprint()
