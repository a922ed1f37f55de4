"""Proves that keys which were fetched under other authorities than those of now are not taken over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme

from authz.config.build import build_snapshot
from authz.config.load import parse
from tests.fakes.idp import FakeIdp
from tests.fakes.tls import server_context
from tests.fakes.waiting import wait_until
from tests.integration.fetching import write_ca
from tests.integration.station import Station

CA, OTHER_CA = trustme.CA(), trustme.CA()

CONFIG = """
version: 1
issuers:
{issuer}
rules: [{{match: {{paths: [/**]}}, allow: authenticated}}]
"""


def section(idp: FakeIdp, folder: Path, *, blocked: str = "") -> str:
    """Configure the provider; another *blocked* key makes another feed of it."""
    fetch, cache = f"ca_file: {folder}/ca.pem", f"cache_dir: {folder}/cache"
    return (
        f"  a: {{issuer: '{idp.issuer}', audiences: [api], fetch: {{{fetch}}}, {cache}, blocked_keys: [{blocked}]}}\n"
    )


def replace_ca(ca: trustme.CA, folder: Path) -> None:
    """Put another authority into the file."""
    os.replace(write_ca(ca, folder, "next.pem"), folder / "ca.pem")  # noqa: PTH105 - as kubelet does


@pytest.mark.parametrize(("ca", "reason"), [(CA, "authenticated"), (OTHER_CA, "keys_unavailable")])
def test_keys_of_another_authority_are_not_inherited(ca: trustme.CA, reason: str, tmp_path: Path) -> None:
    """The file was replaced after the fetch: a reload then begins without keys, as it does for another ca_file."""
    replace_ca(CA, tmp_path)
    with FakeIdp(tls=server_context(CA)) as idp, Station(section(idp, tmp_path)).settle() as sidecar:
        assert sidecar.ask(idp.mint()) == "authenticated"
        wait_until((tmp_path / "cache" / "a.json").exists)
        idp.stop()
        replace_ca(ca, tmp_path)
        config = parse(CONFIG.format(issuer=section(idp, tmp_path, blocked="gone")), file="authz.yaml")
        sidecar.issuers.apply(config, build_snapshot(config))
        assert sidecar.ask(idp.mint()) == reason
    with Station(section(idp, tmp_path)) as restarted:
        assert restarted.ask(idp.mint()) == reason


def test_keys_are_kept_while_the_file_is_away(tmp_path: Path) -> None:
    """A reload at a moment at which the file cannot be read gives up no keys: no other authority was named."""
    replace_ca(CA, tmp_path)
    with FakeIdp(tls=server_context(CA)) as idp, Station(section(idp, tmp_path)).settle() as sidecar:
        (tmp_path / "ca.pem").unlink()
        config = parse(CONFIG.format(issuer=section(idp, tmp_path, blocked="gone")), file="authz.yaml")
        sidecar.issuers.apply(config, build_snapshot(config))
        assert sidecar.ask(idp.mint()) == "authenticated"


def test_new_authority_confirms_nothing_of_the_old_one(tmp_path: Path) -> None:
    """While it runs on, too: the next fetch brings the whole document, under the new authority."""
    replace_ca(CA, tmp_path)
    with FakeIdp(tls=server_context(CA)) as idp, Station(section(idp, tmp_path)).settle() as sidecar:
        before = sidecar.feed("a").view.last_good
        bundle = tmp_path / "bundle.pem"
        bundle.write_bytes((tmp_path / "ca.pem").read_bytes() + OTHER_CA.cert_pem.bytes())
        os.replace(bundle, tmp_path / "ca.pem")  # noqa: PTH105 - as kubelet does
        sidecar.refresh("a")
        after = sidecar.feed("a").view.last_good
        assert before is not None
        assert after is not None
        assert before.authorities != after.authorities
        assert sidecar.ask(idp.mint()) == "authenticated"
