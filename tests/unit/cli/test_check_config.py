"""Proves `authz check-config --fetch`, `--diff` and `--json`: what they show, and the exit codes that they promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from authz.cli import main
from authz.config.load import parse
from authz.telemetry.keys import Refresh
from authz.tooling.key_probe import ADVICE, probe_issuer_keys
from tests.fakes.idp import DISCOVERY, JWKS, FakeIdp, fail, flood, html, redirect, say
from tests.fixtures import A_RSA, jwks

CONFIG: Final = """version: 1
issuers:
  a: {issuer: "ISSUER", audiences: [api], insecure: {http: true}MORE}
rules:
  - {name: all, match: {paths: ["/**"]}}
"""


@pytest.fixture
def idp() -> Iterator[FakeIdp]:
    """An issuer that is good until it is changed."""
    with FakeIdp(algorithm="RS256") as provider:
        yield provider


def run(tmp_path: Path, issuer: str, *arguments: str, more: str = "", rest: str = "") -> Result:
    """Run `authz check-config` on a configuration with this issuer."""
    file = tmp_path / "authz.yaml"
    file.write_text(CONFIG.replace("ISSUER", issuer).replace("MORE", more) + rest, encoding="utf-8")
    return CliRunner().invoke(main, ["check-config", str(file), *arguments])


def test_fetching_shows_what_came(idp: FakeIdp, tmp_path: Path) -> None:
    """URL, jwks_uri, keys, those that are rejected with the reason, freshness and time; exit 0."""
    idp.cache_control = "max-age=300"
    idp.published.append({"kty": "RSA", "kid": "\x1b[2Jbad", "n": "x", "e": "AQAB"})
    result = run(tmp_path, idp.issuer, "--fetch")
    assert result.exit_code == 0, result.output
    assert f"a: {idp.issuer}\n" in result.stdout
    assert f"source        {idp.issuer}{DISCOVERY} -> {idp.url}{JWKS}\n" in result.stdout
    assert "good for 300 s" in result.stdout
    assert f"usable        kid {idp.key.kid}, RSA of 2048 bits" in result.stdout
    assert "rejected      kid \\x1b[2Jbad: " in result.stdout
    assert "\x1b" not in result.output
    told = json.loads(run(tmp_path, idp.issuer, "--fetch", "--json").stdout)
    (fetched,) = told["fetched"]
    assert (fetched["ok"], fetched["result"], fetched["fresh_for_seconds"]) == (True, "updated", 300.0)
    assert [key["kid"] for key in fetched["keys"]] == [idp.key.kid]
    assert len(fetched["rejected"]) == 1
    assert told["ok"] is True


def test_fetching_says_what_rules_read_from_tokens(idp: FakeIdp, tmp_path: Path) -> None:
    """Without a token, the command says what its claims must be, and how to look at one."""
    rule = '  - {name: more, match: {paths: ["/x"]}, require: {claims: {groups: [a]}}}\n'
    plain = run(tmp_path, idp.issuer, "--fetch")
    result = run(tmp_path, idp.issuer, "--fetch", rest=rule)
    told = json.loads(run(tmp_path, idp.issuer, "--fetch", "--json", rest=rule).stdout)

    assert "claims  " not in plain.stdout
    assert "claims        groups: a string, or a list of strings; rule more\n" in result.stdout
    assert "authz explain " in result.stdout
    assert " --token-file TOKEN\n" in result.stdout
    assert told["fetched"][0]["expected_claims"] == ["groups: a string, or a list of strings; rule more"]


FAILURES: Final = {
    "status": (JWKS, fail(503), "status"),
    "redirect": (JWKS, redirect("http://127.0.0.1/x"), "redirect_refused"),
    "HTML": (JWKS, html(), "jwks_rejected"),
    "no keys": (JWKS, say(b'{"keys": []}'), "jwks_rejected"),
    "a flood": (JWKS, flood(1), "too_large"),
    "another issuer": (DISCOVERY, say(b'{"issuer": "https://evil.test", "jwks_uri": "x"}'), "discovery_rejected"),
    "no such page": (DISCOVERY, fail(404), "status"),
}


@pytest.mark.parametrize(("path", "answer", "expected"), FAILURES.values(), ids=FAILURES)
def test_fetching_shows_what_failed(path: str, answer: object, expected: str, idp: FakeIdp, tmp_path: Path) -> None:
    """Which way it failed, in the words of the feed, and what to do; exit 1, for the file itself is fine."""
    idp.answers[path] = answer  # type: ignore[assignment]  # of the fake's kinds
    result = run(tmp_path, idp.issuer, "--fetch")
    assert result.exit_code == 1
    assert f"failed        {expected}, after " in result.stdout
    assert f"to do         {ADVICE[Refresh(expected)]}" in result.stdout
    assert result.stdout.endswith(": valid; 1 of 1 issuers have no usable keys\n")


def test_nobody_there(idp: FakeIdp, tmp_path: Path) -> None:
    """An issuer that is gone fails within its timeout."""
    idp.stop()
    result = run(tmp_path, idp.issuer, "--fetch")
    assert (result.exit_code, "failed        unreachable" in result.stdout) == (1, True)


def test_a_host_that_must_be_listed(idp: FakeIdp, tmp_path: Path) -> None:
    """Discovery that leads elsewhere says which key to write."""
    idp.discovery["jwks_uri"] = "http://keys.test/x"
    result = run(tmp_path, idp.issuer, "--fetch")
    assert result.exit_code == 1
    assert "fetch.allowed_hosts: [keys.test]" in result.stdout


def test_every_key_is_blocked(idp: FakeIdp, tmp_path: Path) -> None:
    """An issuer that answers, and whose keys are all rejected, verifies nothing."""
    result = run(tmp_path, idp.issuer, "--fetch", more=f", blocked_keys: [{idp.key.kid}]")
    assert result.exit_code == 1
    assert "no key is usable" in result.stdout


def test_keys_that_are_not_fetched(tmp_path: Path) -> None:
    """Keys in the file itself, and in a local one, are shown too; nothing is asked, and no cache is written."""
    keys = tmp_path / "jwks.json"
    keys.write_text(jwks(A_RSA), encoding="utf-8")
    for source in (f", jwks: {jwks(A_RSA)}", f", jwks_file: {keys}"):
        result = run(tmp_path, "https://a.test", "--fetch", more=source)
        assert result.exit_code == 0, result.output
        assert "kid a-rsa" in result.stdout
    keys.unlink()
    gone = run(tmp_path, "https://a.test", "--fetch", more=f", jwks_file: {keys}")
    assert gone.exit_code == 1
    assert f"{keys}: No such file" in gone.stdout


def test_nothing_is_cached(idp: FakeIdp, tmp_path: Path) -> None:
    """A look at the issuers leaves nothing behind."""
    config = CONFIG.replace("ISSUER", idp.issuer).replace("MORE", f", cache_dir: {tmp_path}/cache")
    assert probe_issuer_keys("a", parse(config, file="x").issuers["a"]).ok
    assert not (tmp_path / "cache").exists()


def test_every_failure_has_advice() -> None:
    """For each way in which a refresh can end there is a remedy."""
    assert set(ADVICE) == set(Refresh)
    assert {result for result, advice in ADVICE.items() if not advice} == {Refresh.UPDATED, Refresh.NOT_MODIFIED}


def test_the_exit_codes_of_a_difference(tmp_path: Path) -> None:
    """1 where something opens, breaks or no one can tell, 0 where it closes or only changes, 2 for errors in OLD."""
    old = tmp_path / "old.yaml"
    old.write_text(CONFIG.replace("ISSUER", "https://a.test").replace("MORE", ""), encoding="utf-8")

    def exit_code(**changes: str) -> int:
        return run(tmp_path, "https://a.test", "--diff", str(old), **changes).exit_code

    assert exit_code() == 0
    assert exit_code(rest="token: {max_bytes: 64KiB}\n") == 1
    assert exit_code(rest="token: {max_bytes: 8KiB}\n") == 0
    assert exit_code(rest="identity: {headers: {x-user: sub}}\n") == 1
    assert exit_code(rest="responses: {realm: x}\n") == 0
    assert exit_code(more=", audience_claim: azp") == 1
    old.write_text("version: 1", encoding="utf-8")
    assert exit_code() == 2


def test_a_difference_is_told(tmp_path: Path) -> None:
    """One line for each, its effect first; as data, too."""
    old = tmp_path / "old.yaml"
    old.write_text(CONFIG.replace("ISSUER", "https://a.test").replace("MORE", ""), encoding="utf-8")
    arguments = ("https://a.test", "--diff", str(old))
    assert run(tmp_path, *arguments).stdout.startswith("no differences\n")
    result = run(tmp_path, *arguments, rest="token: {max_bytes: 32KiB}\n")
    assert result.stdout.splitlines()[0] == "widens   token.max_bytes: 16KiB -> 32KiB"
    assert result.stdout.endswith(": valid; to review before deployment: 1\n")
    told = json.loads(run(tmp_path, *arguments, "--json", rest="token: {max_bytes: 32KiB}\n").stdout)
    assert told["changes"] == [{"effect": "widens", "about": "token.max_bytes", "text": "16KiB -> 32KiB", "also": []}]


def test_errors_as_data(tmp_path: Path) -> None:
    """A program reads the same errors that people do, and the same exit code; warnings too."""
    result = run(tmp_path, "https://a.test", "--json", rest="serber: {}\n")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"]) == (2, False)
    assert told["errors"] == [{"line": 6, "path": "serber", "message": "unknown key", "hint": "did you mean `server`?"}]
    told = json.loads(run(tmp_path, "https://a.test", "--json").stdout)
    assert [warning["path"] for warning in told["warnings"]] == ["issuers.a.insecure.http"]


WIDENED: Final = {
    "public by accident": '  - {name: open, match: {paths: ["/**"]}, allow: public}\n'
    '  - {name: all, match: {paths: ["/a/b"]}}\n',
    "all that is left is public": '  - {name: all, match: {paths: ["/a"]}}\n'
    '  - {name: open, match: {paths: ["/**"]}, allow: public}\n',
    "never reached behind a weaker one": '  - {name: open, match: {paths: ["/a"]}}\n'
    '  - {name: all, match: {paths: ["/a"]}, require: {scopes: [admin]}}\n',
    "a slip away from a weaker one": '  - {name: all, match: {paths: ["/a/b"]}, require: {scopes: [admin]}}\n'
    '  - {name: rest, match: {paths: ["/**"]}}\n',
    "a weaker one above": '  - {name: rest, match: {paths: ["/a/{x}"], methods: [GET]}}\n'
    '  - {name: all, match: {paths: ["/a/b"]}, require: {scopes: [admin]}}\n',
}
MEANT: Final = {
    "shadow, which says so": '  - {name: all, match: {paths: ["/a"]}, shadow: true}\n',
    "a stricter rule twice": '  - {name: strict, match: {paths: ["/a"]}, require: {scopes: [admin]}}\n'
    '  - {name: all, match: {paths: ["/a"]}}\n',
}


def check_rules(tmp_path: Path, rules: str, *arguments: str) -> Result:
    """Run `authz check-config` on a configuration with these rules."""
    file = tmp_path / "authz.yaml"
    file.write_text(
        f'version: 1\nissuers:\n  a: {{issuer: "https://a.test", audiences: [api]}}\nrules:\n{rules}', encoding="utf-8"
    )
    return CliRunner().invoke(main, ["check-config", str(file), *arguments])


@pytest.mark.parametrize("rules", WIDENED.values(), ids=WIDENED)
def test_strict_refuses_what_widens_access(rules: str, tmp_path: Path) -> None:
    """A likely mistake that lets more pass is a warning, and with --strict an error: exit 2, in text and in JSON."""
    lenient = check_rules(tmp_path, rules)
    strict = check_rules(tmp_path, rules, "--strict")
    told = json.loads(check_rules(tmp_path, rules, "--strict", "--json").stdout)

    assert (lenient.exit_code, " warning: " in lenient.stderr) == (0, True), lenient.output
    assert (strict.exit_code, " error: " in strict.stderr, " warning: " in strict.stderr) == (2, True, False)
    assert "valid; refused because they widen access: " in strict.stdout
    assert (told["ok"], told["warnings"]) == (False, [])
    assert told["errors"][0]["line"] >= 5


@pytest.mark.parametrize("rules", MEANT.values(), ids=MEANT)
def test_strict_leaves_what_is_said_explicitly(rules: str, tmp_path: Path) -> None:
    """A warning about what cannot be a mistake, or lets less pass, stays one: no one's installation stops for it."""
    strict = check_rules(tmp_path, rules, "--strict")
    assert (strict.exit_code, " warning: " in strict.stderr) == (0, True), strict.output


def test_strict_goes_with_a_comparison(tmp_path: Path) -> None:
    """With --diff the difference is shown all the same, and the refusal has the last word."""
    old = tmp_path / "old.yaml"
    check_rules(tmp_path, MEANT["a stricter rule twice"])
    old.write_text((tmp_path / "authz.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    strict = check_rules(tmp_path, WIDENED["public by accident"], "--strict", "--diff", str(old))
    assert strict.exit_code == 2
    assert "widens" in strict.stdout
    assert "refused because they widen access: 2; to review before deployment: " in strict.stdout
