"""Proves, over real sockets and threads, what becomes of requests while issuers rotate, fail and lie."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from authz.demo.loopback import json_response
from authz.demo.signing import SigningKey
from authz.feeds.refresh import MAX_BURST
from tests.fakes.idp import DISCOVERY, JWKS, FakeIdp, fail, flood, html, redirect, say
from tests.fakes.tls import server_context
from tests.fakes.waiting import wait_until
from tests.integration.fetching import SHORT, write_ca
from tests.integration.station import Station


def issuer(idp: FakeIdp, name: str = "a", *, fetch: str = "", more: str = "") -> str:
    """Configure a provider without TLS; *fetch* and *more* are YAML of flow mappings."""
    trust = "insecure: {http: true}" if idp.issuer.startswith("http:") else ""
    parts = ["audiences: [api]", trust, f"fetch: {{{fetch}}}" if fetch else "", more]
    return f"  {name}: {{issuer: '{idp.issuer}', {', '.join(filter(None, parts))}}}\n"


def test_one_issuer_down_is_not_the_others_trouble() -> None:
    """E01: tokens of the one that is down get 503, those of the other pass; it comes without a restart."""
    with FakeIdp() as down, FakeIdp() as up:
        down.stop()
        with Station(issuer(down, "a") + issuer(up, "b")).settle() as sidecar:
            assert sidecar.ask(down.mint()) == "keys_unavailable"
            assert sidecar.ask(up.mint()) == "authenticated"
            assert sidecar.feed("a").view.last_good is None
            assert sidecar.feed("b").view.last_good is not None
            down.start()
            wait_until(lambda: sidecar.ask(down.mint()) == "authenticated")


FAULTS: dict[str, Callable[[FakeIdp], Any]] = {
    "timeout": lambda idp: idp.hang,
    "timeout, dripping": lambda idp: idp.drip(seconds=0.05),
    "redirect_refused": lambda idp: redirect("http://169.254.169.254/latest/meta-data/"),
    "jwks_rejected": lambda idp: html(),
    "jwks_rejected, empty": lambda idp: say(b'{"keys": []}'),
    "too_large": lambda idp: flood(2),
    "status": lambda idp: fail(500),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_leaves_the_last_good_keys(fault: str) -> None:
    """E02, E03, E04, E09, E10: the refresh fails under its own name, and tokens pass meanwhile and after."""
    result = fault.partition(",")[0]
    timeout = f"{SHORT * 1000:.0f}ms" if result == "timeout" else "1m"
    with FakeIdp() as idp, Station(issuer(idp, fetch=f"timeout: {timeout}")).settle() as sidecar:
        wait_until(lambda: sidecar.ask(idp.mint()) == "authenticated")
        failed = sidecar.refreshes("a", result)
        idp.answers[JWKS] = FAULTS[fault](idp)
        sidecar.refresh("a")
        assert sidecar.refreshes("a", result) == failed + 1
        assert sidecar.ask(idp.mint()) == "authenticated"


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "data:application/json,{}",
        "ftp://127.0.0.1/keys",
        "http://user@127.0.0.1/keys",
        "http://elsewhere.test/keys",
        "http://127.0.0.1\\@elsewhere.test/keys",
        "http://127.0.0.1#@elsewhere.test/",
        "//127.0.0.1/keys",
        "http://127.0.0.1.elsewhere.test/keys",
        "http://[::ffff:127.0.0.1]/keys",
        "http://2130706433/keys",
        "http://127.0.0.1 /keys",
        "http://elsewhere.test/" + "x" * 100_000,
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_discovery_cannot_lead_astray(uri: str, *, warm: bool) -> None:
    """E05: the refresh is refused; at first start there are no keys, later the last good ones stay."""
    with FakeIdp() as idp:
        evil: dict[str, object] = {"issuer": idp.issuer, "jwks_uri": uri}
        if not warm:
            idp.discovery = evil
        with Station(issuer(idp, fetch="max_interval: 1s, min_interval: 1ms, interval: 1s")).settle() as sidecar:
            if warm:
                idp.answers[DISCOVERY] = lambda _: json_response(evil)
                sidecar.feed("a").source._suspect = True  # type: ignore[attr-defined]  # as after max_interval
                sidecar.refresh("a")
            wait_until(lambda: sidecar.refreshes("a", "untrusted") >= 1)  # a refresh may have been under way
            assert sidecar.ask(idp.mint()) == ("authenticated" if warm else "keys_unavailable")
            failure = sidecar.feed("a").status().last_failure
            assert failure is not None
            assert len(failure.text) < 700


def test_refusal_says_what_to_add() -> None:
    """A jwks_uri elsewhere needs its line, and the error prints that line."""
    with FakeIdp() as idp:
        idp.discovery["jwks_uri"] = "http://keys.test/keys"
        with Station(issuer(idp)).settle() as sidecar:
            failure = sidecar.feed("a").status().last_failure
            assert failure is not None
            assert "fetch.allowed_hosts: [keys.test]" in failure.text


def test_other_port_of_the_issuer_needs_its_line() -> None:
    """A jwks_uri at another service of the issuer's own host is refused until its port is listed."""
    with FakeIdp() as idp, FakeIdp() as neighbour:
        authority = neighbour.url.removeprefix("http://")
        idp.discovery["jwks_uri"] = f"{neighbour.url}{JWKS}"
        token = neighbour.mint(iss=idp.issuer)
        with Station(issuer(idp)).settle() as sidecar:
            assert sidecar.ask(token) == "keys_unavailable"
            failure = sidecar.feed("a").status().last_failure
            assert failure is not None
            assert f'fetch.allowed_hosts: ["{authority}"]' in failure.text
            assert neighbour.seen == []
        with Station(issuer(idp, fetch=f'allowed_hosts: ["{authority}"]')).settle() as sidecar:
            assert sidecar.ask(token) == "authenticated"


def test_removed_key_is_refused_where_its_signature_was_remembered() -> None:
    """E12: a token that was allowed twice, and so came from the cache, is refused after the next refresh."""
    with FakeIdp() as idp, Station(issuer(idp)).settle() as sidecar:
        token, old = idp.mint(), idp.key.kid
        assert [sidecar.ask(token) for _ in range(2)] == ["authenticated"] * 2
        idp.rotate()
        idp.withdraw(old)
        sidecar.refresh("a")
        assert sidecar.ask(token) == "key_not_found"


def test_token_without_key_id_brings_its_new_key() -> None:
    """With a key for encryption in the set, as Keycloak has: a new algorithm is picked up at the first token."""
    with FakeIdp(algorithm="RS256") as idp:
        idp.published.append({**SigningKey.create("RS256", kid="enc").public(), "use": "enc", "alg": "RSA-OAEP"})
        with Station(issuer(idp, fetch="max_wait: 10s")).settle() as sidecar:
            old = idp.mint(header={"alg": "RS256"})
            idp.rotate("ES256")
            assert sidecar.ask(idp.mint(header={"alg": "ES256"})) == "authenticated"
            assert sidecar.ask(old) == "authenticated"


def test_thousand_tokens_with_a_new_key_cost_one_fetch() -> None:
    """E13: one fetch; checks that could not wait get 503, and none is answered that the key does not exist."""
    with FakeIdp() as idp, Station(issuer(idp, fetch="max_wait: 10s"), waiters=40).settle() as sidecar:
        before = idp.count(JWKS)
        idp.rotate()
        tokens = [idp.mint(sub=f"user-{number}") for number in range(1000)]
        with ThreadPoolExecutor(64) as crowd:
            reasons = set(crowd.map(sidecar.ask, tokens))
        assert idp.count(JWKS) == before + 1
        assert reasons <= {"authenticated", "keys_unavailable"}
        assert sidecar.ask(tokens[0]) == "authenticated"


def test_two_clusters_of_one_issuer() -> None:
    """Their keys are a union; while one of them is down, tokens of both pass, and a rotation at the other is met."""
    with FakeIdp() as east, FakeIdp() as west:
        uris = f"jwks_uris: ['{east.url}{JWKS}', '{west.url}{JWKS}']"
        section = f"  a: {{issuer: 'https://issuer.test', audiences: [api], insecure: {{http: true}}, {uris}}}\n"
        with Station(section).settle() as sidecar:
            of_east, of_west = east.mint(iss="https://issuer.test"), west.mint(iss="https://issuer.test")
            assert {sidecar.ask(of_east), sidecar.ask(of_west)} == {"authenticated"}
            east.answers[JWKS] = fail(503)
            west.rotate()
            new = west.mint(iss="https://issuer.test")
            assert sidecar.ask(new) == "authenticated"
            assert {sidecar.ask(of_east), sidecar.ask(of_west)} == {"authenticated"}
            stranger = east.mint(iss="https://issuer.test", key=SigningKey.create("ES256"))
            assert sidecar.ask(stranger) == "keys_unavailable"


def test_flood_of_unknown_keys_and_issuers() -> None:
    """E14, E15: 2,000 random key ids cost the bucket of fetches; random issuers none; good tokens pass throughout."""
    with FakeIdp() as idp, Station(issuer(idp)).settle() as sidecar:
        seen, began = len(idp.seen), time.monotonic()
        good = idp.mint()
        for number in range(2000):
            unknown = {**idp.key.header(), "kid": f"kid-{number}"}
            assert sidecar.ask(idp.mint(header=unknown)) == "keys_unavailable"
            if number % 100 == 0:
                assert sidecar.ask(good) == "authenticated"
                assert sidecar.ask(idp.mint(iss=f"https://random-{number}.test")) == "issuer_unknown"
        earned = (time.monotonic() - began) / sidecar.feed("a").schedule.cooldown
        assert len(idp.seen) <= seen + MAX_BURST + earned + 1


def test_bad_signature_by_a_known_key_fetches_nothing() -> None:
    """A forged signature is an answer, not a question."""
    with FakeIdp() as idp, Station(issuer(idp)).settle() as sidecar:
        seen = len(idp.seen)
        token = idp.mint()
        forged = token[:-8] + ("AAAAAAAA" if not token.endswith("AAAAAAAA") else "BBBBBBBB")
        assert {sidecar.ask(forged) for _ in range(20)} == {"signature_invalid"}
        assert len(idp.seen) == seen


def test_keys_over_tls(tmp_path: Path) -> None:
    """E18, whole: with the right authority tokens pass, with another one there are never keys."""
    ca, other = trustme.CA(), trustme.CA()
    with FakeIdp(tls=server_context(ca)) as idp:
        section = issuer(idp, "a", fetch=f"ca_file: {write_ca(ca, tmp_path)}")
        with Station(section).settle() as sidecar:
            assert sidecar.ask(idp.mint()) == "authenticated"
        section = issuer(idp, "a", fetch=f"ca_file: {write_ca(other, tmp_path)}")
        with Station(section).settle() as sidecar:
            assert sidecar.ask(idp.mint()) == "keys_unavailable"
            assert sidecar.refreshes("a", "tls") >= 1


def test_issuer_that_is_an_http_identifier(tmp_path: Path) -> None:
    """AD FS: iss is compared and never fetched, the keys come by https, and nothing is loosened."""
    ca, iss = trustme.CA(), "http://fs.test/adfs/services/trust"
    with FakeIdp(tls=server_context(ca)) as idp:
        source = f"jwks_uri: '{idp.url}{JWKS}', fetch: {{ca_file: {write_ca(ca, tmp_path)}}}"
        with Station(f"  a: {{issuer: '{iss}', audiences: [api], {source}}}\n").settle() as sidecar:
            assert sidecar.ask(idp.mint(iss=iss)) == "authenticated"


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    """With cache_dir a restart during an outage costs nothing; another CA, URL or flag makes the file worthless."""
    cache = f"cache_dir: {tmp_path}/cache"
    with FakeIdp() as idp:
        token = idp.mint()
        with Station(issuer(idp, more=cache)).settle():
            wait_until((tmp_path / "cache" / "a.json").exists)
        idp.stop()
        with Station(issuer(idp, more=cache)) as sidecar:
            assert sidecar.ask(token) == "authenticated"
        for fetch in ("allowed_hosts: [x.test]", "allowed_networks: [10.0.0.0/8]", "proxy: 'http://127.0.0.1:1'"):
            with Station(issuer(idp, more=cache, fetch=fetch)) as sidecar:
                assert sidecar.ask(token) == "keys_unavailable"
        blocked = f"{cache}, blocked_keys: ['{idp.key.kid}']"
        with Station(issuer(idp, more=blocked)) as sidecar:
            assert sidecar.ask(token) == "key_unusable"


def test_key_file_is_followed(tmp_path: Path) -> None:
    """A file's new content counts without a restart."""
    with FakeIdp() as idp:
        file = tmp_path / "keys.json"
        file.write_text(json.dumps({"keys": idp.published}))
        section = f"  a: {{issuer: '{idp.issuer}', audiences: [api], jwks_file: {file}}}\n"
        with Station(section).settle() as sidecar:
            assert sidecar.ask(idp.mint()) == "authenticated"
            idp.rotate()
            file.write_text(json.dumps({"keys": idp.published}))
            wait_until(lambda: sidecar.ask(idp.mint()) == "authenticated")


def test_keys_are_described() -> None:
    """What `/keys` shows: source, keys with their use, rejected ones with why, the last error, unknown key ids."""
    with FakeIdp() as idp:
        idp.published.append({"kty": "oct", "k": "A" * 43, "kid": "shared"})
        inline = json.dumps(idp.key.public())
        section = f"  inline: {{issuer: 'https://inline.test', audiences: [api], jwks: {{keys: [{inline}]}}}}\n"
        with Station(issuer(idp) + section).settle() as sidecar:
            sidecar.ask(idp.mint())
            sidecar.ask(idp.mint(header={**idp.key.header(), "kid": "unknown"}))
            idp.answers[JWKS] = fail(500)
            sidecar.refresh("a")
            described = sidecar.describe()
            document = json.loads(json.dumps(described))
            fetched, written = document["issuers"]
            (key,) = fetched["keys"]
            assert (key["kid"], key["kty"], key["alg"], key["use"], key["size"]) == (
                idp.key.kid,
                "EC",
                "ES256",
                "sig",
                256,
            )
            assert key["thumbprint"] == idp.key.jwk.thumbprint()
            assert key["first_seen"] is not None
            assert key["last_used"] is not None
            assert fetched["rejected"] == [{"kid": "shared", "why": "symmetric key in a published set"}]
            assert fetched["source"] == f"{idp.url}{DISCOVERY} -> {idp.url}{JWKS}"
            assert fetched["unknown_kids"] == 1
            assert fetched["last_error"]["result"] == "status"
            assert (written["source"], written["serving"]) == ("configuration", True)
