"""Proves that `authz check-config --fetch` tells keys that serve nothing, and names that block nothing."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from authz.cli import main
from tests.unit.config.sample import small
from tests.unit.feeds.rig import K1, document
from tests.world import A_RSA, ABSENT, changed


def test_idle_keys_and_idle_blocks(tmp_path: Path) -> None:
    """An issuer whose keys serve none of its algorithms gives nothing, and the exit code says so."""
    keys, config = tmp_path / "keys.json", tmp_path / "authz.yaml"
    keys.write_bytes(document(changed(A_RSA.public(), {"alg": ABSENT})))
    issuer = f"jwks_file: {keys}\n    algorithms: [PS256, RS512]\n    blocked_keys: [ahead]"
    config.write_text(small(issuer=issuer))
    done = CliRunner().invoke(main, ["check-config", "--fetch", str(config)])
    assert done.exit_code == 1
    assert "  serves none   " in done.stdout
    assert "it names no alg, and PS256, RS512 could be meant" in done.stdout
    assert "  blocks none   ahead: no key has this kid or thumbprint" in done.stdout
    keys.write_bytes(document(K1, changed(A_RSA.public(), {"alg": ABSENT})))
    config.write_text(small(issuer=issuer.replace("RS512", "ES256")))
    told = json.loads(CliRunner().invoke(main, ["check-config", "--fetch", "--json", str(config)]).stdout)
    [fetched] = told["fetched"]
    assert fetched["ok"]
    assert [key["not_serving"] for key in fetched["keys"]] == [None, None]
    assert fetched["blocked_unmatched"] == ["ahead"]
