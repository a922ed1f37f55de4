"""Proves `authz revoke` and its paths of the admin port: what is sent, who may send it, and what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from authz.admin.console.access import Access
from authz.admin.revocations import Refusal, make_revocation_routes
from authz.admin.routes import AdminRequest, dispatch
from authz.admin.server import AdminServer
from authz.cli import main
from authz.config.address import TcpAddress
from authz.core.revocation import token_digest
from authz.core.token import parse_token
from tests.fixtures import A, mint

LOCAL = ("127.0.0.1", 1)
FAR = ("192.0.2.1", 1)


class Desk:
    """Takes every entry but those of the issuer `full`, and knows half of them."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.undone: list[Any] = []
        self.looked = 0

    def describe(self) -> Mapping[str, Any]:
        ours = {"source": "ours", "entries": 2, "available": False, "last_error": "/l: \x1b[2Jno such file"}
        events = {"source": "events", "entries": 3, "by": {"sid": 2, "sub": 1, "jti": 0}}
        undoable = [{"iss": A, "sub": "bob\x1b[2J", "before": 1_796_040_000.0, "until": 1_796_043_600.0}]
        shared = {"age": 3.2, "pending": 4, "failure": "Connection \x1b[2Jrefused"}
        return {"sources": [events, ours], "undoable": undoable, "shared": shared}

    def revoke(self, document: bytes) -> Mapping[str, Any]:
        entries = json.loads(document)
        if entries[0]["iss"] == "full":
            raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, ("no room: there are 5 revocations already",))
        if entries[0]["iss"] == "alone":
            return {"entries": len(entries), "unshared": "Connection refused", "silent_workers": []}
        self.entries += entries
        return {"entries": len(entries), "new": (len(entries) + 1) // 2, "silent_workers": [1]}

    def undo(self, document: bytes) -> Mapping[str, Any]:
        names = json.loads(document)
        if names[0]["iss"] == "unsealed":
            raise Refusal(HTTPStatus.CONFLICT, ("needs revocation.shared.secret_file",))
        self.undone += names
        return {"undone": 2 * len(names)} if names[0]["iss"] != "alone" else {"unshared": "Connection refused"}

    def find(self, document: bytes) -> Mapping[str, Any]:
        found = {
            "events": {"before": 1_796_040_000.0, "until": None},
            "ours": {"before": None, "until": 1_796_043_600.0},
        }
        return {"revoked": [found if name.get("sub") == "eve" else {} for name in json.loads(document)]}

    def catch_up(self) -> None:
        self.looked += 1


@pytest.fixture
def desk() -> Desk:
    """What the admin port asks."""
    return Desk()


@pytest.fixture
def admin(desk: Desk) -> Iterator[str]:
    """The URL of an admin listener."""
    server = AdminServer(TcpAddress("127.0.0.1", 0), make_revocation_routes(desk, Access(None, csrf="")))
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["revoke", *arguments])


def test_each_option_is_an_entry(admin: str, desk: Desk) -> None:
    """Several at once are several entries, of the same issuer and until the same time."""
    done = run("--admin", admin, "--issuer", A, "--sub", "eve", "--sid", "s1", "--before", "2026-11-30T12:00:00Z")
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        ["revoked: 1 new, 1 known already", "worker 1 did not answer: it reads the entries within a second"],
    )
    before = 1_796_040_000.0
    assert desk.entries == [{"iss": A, "sid": "s1", "before": before}, {"iss": A, "sub": "eve", "before": before}]


@pytest.mark.parametrize(
    "time", ["1796040000", "2026-11-30T12:00:00Z", "2026-11-30 12:00", "2026-11-30T14:00:00+02:00"]
)
def test_a_time_in_each_form(time: str) -> None:
    """Without a zone it is UTC, wherever the command runs."""
    done = run("--issuer", A, "--client", "shop", "--before", time, "--print")
    assert json.loads(done.stdout) == {"revoked": [{"iss": A, "client": "shop", "before": 1_796_040_000.0}]}


def test_a_token_that_leaked(tmp_path: Path, admin: str, desk: Desk) -> None:
    """It names its issuer itself, and is sent as a digest; an opaque one needs the issuer."""
    token, file = mint(), tmp_path / "leaked"
    file.write_text(f"{token}\n")
    assert run("--admin", admin, "--token-file", str(file)).exit_code == 0
    assert desk.entries == [{"iss": A, "digest": token_digest(parse_token(token))}]
    file.write_text("opaque")
    assert "give --issuer" in run("--token-file", str(file)).stderr
    printed = run("--token-file", str(file), "--issuer", A, "--print").stdout
    assert json.loads(printed)["revoked"] == [{"iss": A, "digest": token_digest("opaque")}]


def test_a_list_is_sent_in_parts(tmp_path: Path, admin: str, desk: Desk) -> None:
    """However long it is; one with a typo is not sent at all."""
    file, entries = tmp_path / "list.json", [{"iss": A, "jti": str(number)} for number in range(500)]
    file.write_text(json.dumps({"revoked": entries}))
    done = run("--admin", admin, "--list", str(file))
    assert done.stdout.startswith("revoked: 250 new, 250 known already\n")
    assert desk.entries == entries
    file.write_text(json.dumps([*entries, {"iss": A}]))
    done = run("--admin", admin, "--list", str(file))
    assert (done.exit_code, len(desk.entries)) == (2, 500)
    assert f"{file}: entry 501: must have one of jti" in done.stderr
    file.write_text("{}")
    assert "is neither" in run("--list", str(file)).stderr


def test_a_refusal_is_said(admin: str) -> None:
    """No room is not success."""
    done = run("--admin", admin, "--issuer", "full", "--sub", "eve")
    assert done.exit_code == 1
    assert "no room: there are 5 revocations already" in done.stderr


@pytest.mark.parametrize(("option", "done"), [((), "revoked here"), (("--undo",), "taken back here")])
def test_what_other_replicas_do_not_know_is_no_success(admin: str, option: tuple[str, ...], done: str) -> None:
    """The command says so, and a script sees it."""
    result = run("--admin", admin, "--issuer", "alone", "--sub", "eve", *option)
    assert result.exit_code == 1
    assert f"{done}; other replicas do not know yet: Connection refused" in result.stderr


def test_what_was_wrong_is_taken_back(admin: str, desk: Desk) -> None:
    """By the name that was revoked; where replicas could not believe it, it is refused."""
    done = run("--admin", admin, "--issuer", A, "--sub", "eve", "--undo")
    assert (done.exit_code, done.stdout) == (0, "taken back: 2 entries\n")
    assert desk.undone == [{"iss": A, "sub": "eve"}]
    done = run("--admin", admin, "--issuer", "unsealed", "--sub", "eve", "--undo")
    assert done.exit_code == 1
    assert "not taken back" in done.stderr
    assert "needs revocation.shared.secret_file" in done.stderr
    assert run("--admin", admin, "--issuer", A, "--sub", "eve", "--undo", "--before", "now").exit_code == 2
    assert run("--admin", admin, "--issuer", A, "--sub", "eve", "--undo", "--show").exit_code == 2
    assert run("--admin", admin, "--undo").exit_code == 2


def test_what_revokes_a_name(admin: str, desk: Desk) -> None:
    """Each source of it, with its times; nothing is revoked by asking."""
    done = run("--admin", admin, "--issuer", A, "--sub", "eve", "--sid", "s1", "--show")
    assert done.stdout.splitlines() == [
        f"sid s1 of {A}: not revoked",
        f"sub eve of {A}: revoked by events, if issued until 2026-11-30T12:00:00Z, for ever",
        f"sub eve of {A}: revoked by ours, until 2026-11-30T13:00:00Z",
    ]
    assert desk.entries == []


def test_what_there_is(admin: str) -> None:
    """Each source with its entries, and no control characters of an error."""
    done = run("--admin", admin, "--show")
    assert done.stdout.splitlines()[0] == "events: 3 entries (2 by sid, 1 by sub)"
    assert "ours: 2 entries, not available, last error: /l: " in done.stdout
    assert "if issued until 2026-11-30T12:00:00Z, until 2026-11-30T13:00:00Z" in done.stdout
    assert "shared state: read 3 s ago, 4 entries wait to be sent, last error: Connection " in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "say what to revoke"),
        (["--issuer", A], "say what to revoke"),
        (["--sub", "eve"], "give --issuer"),
        (["--issuer", A, "--sub", "eve", "--before", "yesterday"], "write now, seconds since 1970"),
        (["--issuer", A, "--sub", "eve", "--show", "--undo"], "or --show"),
    ],
)
def test_wrong_arguments(arguments: list[str], why: str) -> None:
    """Nothing is sent."""
    done = run(*arguments)
    assert done.exit_code == 2
    assert why in done.stderr


def test_no_sidecar_answers() -> None:
    """The status says that nothing was revoked."""
    done = run("--admin", "http://127.0.0.1:1", "--issuer", A, "--sub", "eve", "--before", "now")
    assert done.exit_code == 1
    assert "not revoked at http://127.0.0.1:1" in done.stderr


def ask(desk: Desk, target: str, *, token: str | None = None, **request: Any) -> HTTPStatus:  # noqa: ANN401
    """Ask the paths as a peer does."""
    access = Access(None if token is None else lambda: token, csrf="")
    asked = {"peer": LOCAL, "accept": "", "method": "POST", "body": b'[{"iss": "a"}]', **request}
    return dispatch(make_revocation_routes(desk, access), target, AdminRequest(**asked)).status


def test_who_may_revoke(desk: Desk) -> None:
    """A peer on this host or with the token, and no page in a browser; workers are told by their supervisor alone."""
    assert ask(desk, "/revocations") == 200
    assert ask(desk, "/revocations", peer=FAR) == 403
    assert ask(desk, "/revocations", origin="http://evil.test") == 403
    assert ask(desk, "/revocations", fetch_site="cross-site") == 403
    assert ask(desk, "/revocations", host="rebound.evil.test") == 403
    assert ask(desk, "/revocations", token="t") == 401
    assert ask(desk, "/revocations", token="t", peer=FAR, authorization="Bearer t") == 200
    assert ask(desk, "/revocations", peer=FAR, method="GET") == 403
    assert len(desk.entries) == 2
    assert ask(desk, "/revocations/catch-up") == 403
    assert desk.looked == 0
    assert ask(desk, "/revocations/catch-up", peer="") == 200
    assert desk.looked == 1
