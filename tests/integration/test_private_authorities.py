"""Proves that an authority which the operator named is verified by signature, name and time, on every Python alike."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from authz.feeds.http.tls import TlsTrust
from authz.telemetry.keys import Refresh
from tests.fakes.authority import UNUSUAL, Authority, Form
from tests.fakes.idp import JWKS, FakeIdp
from tests.integration.fetching import make_fetcher, result

HOST = "idp.test"


def url_of(idp: FakeIdp, host: str = HOST) -> str:
    """The URL of the keys at a fake provider, under a name."""
    return f"https://{host}:{idp.url.rpartition(':')[2]}{JWKS}"


@pytest.mark.parametrize("form", UNUSUAL.values(), ids=UNUSUAL)
def test_private_authority_of_unusual_form(form: Form, tmp_path: Path) -> None:
    """Clusters and companies have them for ten years to come: keys are fetched under each."""
    authority = Authority(form)
    with FakeIdp(tls=authority.server_context(HOST)) as idp:
        fetcher = make_fetcher(url_of(idp), ca_file=authority.write(tmp_path))
        assert fetcher.get(url_of(idp), {}).status == 200


@pytest.mark.parametrize("form", UNUSUAL.values(), ids=UNUSUAL)
def test_these_forms_are_what_newer_pythons_refuse(form: Form, tmp_path: Path) -> None:
    """The default context of Python 3.13, made on any Python: it is not the one that is used."""
    authority = Authority(form)
    context = ssl.create_default_context(cafile=str(authority.write(tmp_path)))
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    server = authority.server_context(HOST)
    assert "verify failed" in str(shake_hands(context, server))
    assert shake_hands(TlsTrust(str(authority.write(tmp_path))).verifier().context, server) is None


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLError | None:
    """Complete TLS in memory; return what the client found wrong."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=HOST)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return error
    return None


def test_flags_are_the_same_everywhere(tmp_path: Path) -> None:
    """For the system's authorities and for those of a file, whatever this Python's defaults are."""
    expected = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    for trust in (TlsTrust(), TlsTrust(str(Authority().write(tmp_path)))):
        context = trust.verifier().context
        assert context.verify_flags == expected
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_systems_authorities_are_loaded() -> None:
    """Without a file: as many as the default context of this Python has."""
    assert TlsTrust().verifier().context.cert_store_stats() == ssl.create_default_context().cert_store_stats()


def test_intermediate_authority_may_be_the_one_that_is_named(tmp_path: Path) -> None:
    """What the operator named is where trust begins: its own issuer needs not be known."""
    root = Authority(name="root")
    issuing = Authority(name="issuing", parent=root)
    with FakeIdp(tls=issuing.server_context(HOST, issuing)) as idp:
        fetcher = make_fetcher(url_of(idp), ca_file=issuing.write(tmp_path))
        assert fetcher.get(url_of(idp), {}).status == 200


def test_bundle_with_comments_in_any_language(tmp_path: Path) -> None:
    """Comments between certificates are not read, whatever their encoding."""
    authority = Authority()
    pem = authority.write(tmp_path).read_bytes()
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(
        b"\xef\xbb\xbf# Autorit\xc3\xa9\n" + Authority().write(tmp_path).read_bytes() + b"# \xe9\n" + pem
    )
    with FakeIdp(tls=authority.server_context(HOST)) as idp:
        assert make_fetcher(url_of(idp), ca_file=bundle).get(url_of(idp), {}).status == 200


ROOT = Authority(name="root")
LEAF = Authority(Form(ca=False), name="leaf", parent=ROOT)
UNNAMED = Form(key_identifiers=False)

REFUSED: dict[str, tuple[Authority, Authority, tuple[Authority, ...]]] = {
    "expired": (lapsed := Authority(Form(expired=True)), lapsed, ()),
    "wrong name": (ROOT, ROOT, ()),
    "wrong signature": (Authority(UNNAMED), Authority(UNNAMED), ()),
    "not an authority": (no_ca := Authority(Form(ca=False, key_usage=False)), no_ca, ()),
    "no constraints": (bare := Authority(Form(ca=None, key_usage=False)), bare, ()),
    "intermediate that is no authority": (ROOT, LEAF, (LEAF,)),
}
"""The authority that is trusted, the one that signed the server's certificate, and the chain between them."""


@pytest.mark.parametrize("fault", REFUSED)
def test_what_makes_no_chain_is_refused(fault: str, tmp_path: Path) -> None:
    """Leniency about form opens nothing: signatures, names, times and cA are verified, and no request is sent."""
    trusted, signing, chain = REFUSED[fault]
    context = signing.server_context("other.test" if fault == "wrong name" else HOST, *chain)
    with FakeIdp(tls=context) as idp:
        fetcher = make_fetcher(url_of(idp), ca_file=trusted.write(tmp_path))
        assert result(fetcher, url_of(idp)) is Refresh.TLS
        assert idp.seen == []
