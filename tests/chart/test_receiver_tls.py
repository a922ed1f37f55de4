"""Logout tokens over TLS, as issuers send them: through the Envoy of the chart, with a certificate of a Secret."""

from __future__ import annotations

import http.client
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import pytest
import trustme

from authz.core.claims import LOGOUT_EVENT
from authz.demo.client import send
from authz.demo.signing import SigningKey
from tests.chart.harness import Stage, set_stage, write
from tests.chart.helm import Charts, Document
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until
from tests.integration.oidc_provider import OidcProvider, private_jwk

pytestmark = [pytest.mark.needs("helm", "envoy"), pytest.mark.xdist_group("chart-receiver")]

PATH: Final = "/authz/backchannel-logout"
API: Final = "https://api.test/orders"


def secret(ca: trustme.CA) -> Document:
    """A Secret with a certificate of *ca*, as cert-manager writes it."""
    issued = ca.issue_cert("127.0.0.1")
    chain = "".join(each.bytes().decode() for each in issued.cert_chain_pems)
    return {"data": {"tls.crt": chain, "tls.key": issued.private_key_pem.bytes().decode()}}


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    """What a client that trusts only *ca* checks."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def changes(issuer: dict[str, Any]) -> dict[str, Any]:
    """Values: a receiver, and an issuer that logs out."""
    return {
        "authz": {
            "receiver": {"enabled": True, "port": int(free_address().rpartition(":")[2])},
            "config": {
                "issuers": {"corporate": issuer},
                "rules": [{"name": "all", "match": {"paths": ["/**"]}, "allow": "authenticated"}],
            },
        },
    }


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="authz-") as made:
        yield Path(made)


def form(stage: Stage, sid: str) -> bytes:
    """Write the body that carries a logout token about a session."""
    idp = stage.idp
    claims = idp.claims(aud="web", jti=sid, sid=sid, events={LOGOUT_EVENT: {}})
    return urlencode({"logout_token": idp.key.sign(claims, header={**idp.key.header(), "typ": "logout+jwt"})}).encode()


def log_out(stage: Stage, sid: str, tls: ssl.SSLContext) -> int:
    """Post a logout token; return the status. Raises SSLCertVerificationError."""
    headers = [("Content-Type", "application/x-www-form-urlencoded")]
    return send(f"{stage.front}{PATH}", method="POST", headers=headers, body=form(stage, sid), tls=tls).status


def test_a_certificate_is_checked_by_the_sender_and_renewed_under_open_connections(
    charts: Charts, folder: Path
) -> None:
    """A sender that does not trust it sends nothing; after a renewal of the Secret the new one is shown: no restart.

    A connection that a sender keeps goes on.
    """
    first, second = trustme.CA(), trustme.CA()
    before, after = trusting(first), trusting(second)
    with set_stage(charts, folder, changes({"logout": {"clients": ["web"]}}), certificate=secret(first)) as stage:
        tokens = {sid: stage.idp.mint(sid=sid) for sid in ("s1", "s2", "s3", "s4")}

        def reached(sid: str, tls: ssl.SSLContext) -> int:
            return stage.ask("/orders/7", client="203.0.113.1", token=tokens[sid], tls=tls).status

        kept = http.client.HTTPSConnection(urlsplit(stage.front).netloc, context=before)
        assert log_out(stage, "s1", before) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            log_out(stage, "s2", after)
        assert [reached(sid, before) for sid in ("s1", "s2")] == [401, 200]
        kept.request("POST", PATH, form(stage, "s2"))
        assert kept.getresponse().read() == b""
        write(secret(second), stage.certificate)

        def renewed() -> bool:
            try:
                return log_out(stage, "s3", after) == 200
            except ssl.SSLCertVerificationError:
                return False

        wait_until(renewed)
        with pytest.raises(ssl.SSLCertVerificationError):
            log_out(stage, "s4", before)
        assert [reached(sid, after) for sid in ("s2", "s3", "s4")] == [401, 401, 200]
        kept.request("POST", PATH, form(stage, "s4"))
        assert kept.getresponse().status == 200
        kept.close()
        assert reached("s4", after) == 401


@pytest.mark.needs("node", "oidc-provider")
def test_a_certified_provider_logs_out_over_tls(charts: Charts, folder: Path) -> None:
    """Npm's oidc-provider, with an authority that it trusts: its own token ends what a user had; with another, nothing.

    It reports the failure, for which its operator has no other sign.
    """
    key, ca = SigningKey.create("ES256", kid="k"), trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    values = changes({})
    with OidcProvider(authorities=folder / "ca.pem") as provider:
        iss = provider.start(private_jwk(key), algorithm="ES256")
        values["authz"]["config"]["issuers"]["corporate"] = {
            "issuer": iss,
            "audiences": [API],
            "logout": {"clients": ["web"], "revokes": "subject"},
        }
        for served, trusted in ((ca, True), (trustme.CA(), False)):
            with set_stage(charts, folder, values, certificate=secret(served)) as stage:
                provider.stop()
                provider.start(private_jwk(key), algorithm="ES256", logout=f"{stage.front}{PATH}")
                token = provider.user(API, "alice")[0]

                def reached() -> int:
                    tls = trusting(served)  # noqa: B023 - called here
                    return stage.ask("/orders/7", client="203.0.113.1", token=token, tls=tls).status  # noqa: B023

                assert reached() == 200
                assert (provider.logout("alice", "session-1") == "") is trusted
                assert reached() == (401 if trusted else 200)
