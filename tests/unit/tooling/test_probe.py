"""Proves that `authz check-config --fetch` reports keys that serve nothing, and names that block nothing."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from authz.cli import main
from tests.fixtures import A_RSA, ABSENT, changed
from tests.unit.config.sample import small
from tests.unit.feeds.rig import K1, document


def test_idle_keys_and_idle_blocks(tmp_path: Path) -> None:
    """An issuer whose keys serve none of its algorithms gives nothing, and the exit code says so."""
    keys, config = tmp_path / "keys.json", tmp_path / "authz.yaml"
    keys.write_bytes(document(changed(A_RSA.public(), {"alg": ABSENT})))
    issuer = f"jwks_file: {keys}\n    algorithms: [ES256, ES384]\n    blocked_keys: [ahead]"
    config.write_text(small(issuer=issuer))
    done = CliRunner().invoke(main, ["check-config", "--fetch", str(config)])
    assert done.exit_code == 1
    assert "  unusable      " in done.stdout
    assert "none of the issuer's algorithms is for a key of type RSA" in done.stdout
    assert "  unmatched     ahead: a blocked key that is not in the set" in done.stdout
    keys.write_bytes(document(K1, changed(A_RSA.public(), {"alg": ABSENT})))
    config.write_text(small(issuer=issuer.replace("ES384", "RS512")))
    told = json.loads(CliRunner().invoke(main, ["check-config", "--fetch", "--json", str(config)]).stdout)
    [fetched] = told["fetched"]
    assert fetched["ok"]
    assert [key["not_serving"] for key in fetched["keys"]] == [None, None]
    assert fetched["blocked_unmatched"] == ["ahead"]


def test_a_key_is_named_as_it_is_blocked(tmp_path: Path) -> None:
    """Key ids that look like a token are shown unchanged: usable ones, rejected ones, and those that block nothing."""
    like = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ"
    keys, config = tmp_path / "keys.json", tmp_path / "authz.yaml"
    published = ({**K1.public(), "kid": f"{like}1"}, {"kty": "x", "kid": f"{like}2"})
    keys.write_bytes(document(*published))
    config.write_text(small(issuer=f"jwks_file: {keys}\n    algorithms: [ES256]\n    blocked_keys: [{like}3]"))
    done = CliRunner().invoke(main, ["check-config", "--fetch", str(config)])
    assert done.exit_code == 0, done.output
    for number in (1, 2, 3):
        assert f"{like}{number}" in done.stdout
