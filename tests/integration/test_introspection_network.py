"""Proves the way to an introspection endpoint: mutual TLS, by which the sidecar also proves who asks, and a proxy."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from authz.demo.loopback import Responder, json_response
from tests.fakes.idp import FakeIdp
from tests.fakes.raw import RawServer, forward
from tests.fakes.tls import server_context
from tests.integration.asking import INTROSPECT, endpoint_of
from tests.integration.fetching import HERE, write_ca
from tests.integration.station import Station
from tests.integration.test_client_certificate import CA, OTHER_CLIENTS, demanding, write_pair

TOKEN = "an-opaque-token"
Serve = Callable[[ssl.SSLContext], FakeIdp]
ASKED_BY_CERTIFICATE = "client: {id: rs, mtls: true}"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start issuers that call every token active."""
    with ExitStack() as running:

        def start(tls: ssl.SSLContext) -> FakeIdp:
            idp = running.enter_context(FakeIdp(tls=tls))
            idp.answers[INTROSPECT] = active(idp)
            return idp

        yield start


def active(idp: FakeIdp) -> Responder:
    """Answer as an issuer does whose every token is active."""
    said = {**idp.claims(), "active": True, "token_type": "Bearer"}
    return lambda _: json_response(said)


def station(idp: FakeIdp, folder: Path, asked: str, *fetch: str) -> Station:
    """A sidecar that asks *idp* as *asked* says; *fetch* are settings of how it is reached."""
    settings = (f"ca_file: {write_ca(CA, folder)}", f"allowed_networks: [{HERE}/32]", *fetch)
    lines = (
        f"issuer: {idp.issuer}",
        "audiences: [api]",
        "algorithms: [ES256]",
        f"fetch: {{{', '.join(settings)}}}",
        f"introspection: {{url: '{endpoint_of(idp)}', {asked}, timeout: 10s, max_wait: 10s}}",
    )
    return Station("  a:\n" + "".join(f"    {line}\n" for line in lines)).settle()


def certificate(folder: Path, clients: trustme.CA | None = None) -> tuple[str, str]:
    """Write a client certificate; return the settings that name it."""
    files = write_pair(folder) if clients is None else write_pair(folder, clients)
    return f"client_cert_file: {files.cert_file}", f"client_key_file: {files.key_file}"


def questions(idp: FakeIdp) -> list[dict[str, str]]:
    """The forms that the issuer was asked with."""
    return [dict(request.parameters) for request in idp.seen if request.method == "POST"]


def test_the_certificate_says_who_asks(serve: Serve, tmp_path: Path) -> None:
    """The form names the client and has no secret (RFC 8705 section 2); the certificate of the connection proves it."""
    idp = serve(demanding(HERE))
    with station(idp, tmp_path, ASKED_BY_CERTIFICATE, *certificate(tmp_path)) as sidecar:
        assert sidecar.ask(TOKEN) == "authenticated"
    assert questions(idp) == [{"token": TOKEN, "token_type_hint": "access_token", "client_id": "rs"}]


def test_a_certificate_that_the_issuer_does_not_know_is_our_fault(serve: Serve, tmp_path: Path) -> None:
    """Nothing was said of the token: the client may try again, and does so with success once the file is replaced."""
    idp = serve(demanding(HERE))
    with station(idp, tmp_path, ASKED_BY_CERTIFICATE, *certificate(tmp_path, OTHER_CLIENTS)) as sidecar:
        assert sidecar.ask(TOKEN) == "introspection_unavailable"
        assert questions(idp) == []
        certificate(tmp_path)
        assert sidecar.ask(TOKEN) == "authenticated"


def test_a_proxy_passes_the_question_on_and_reads_nothing(serve: Serve, tmp_path: Path) -> None:
    """TLS is with the issuer, and its certificate is checked: of an impostor behind the proxy nothing is asked."""
    idp, impostor = serve(server_context(CA, HERE)), serve(server_context(trustme.CA(), HERE))
    secret = f"client: {{id: rs, secret_file: {tmp_path / 'secret'}}}"
    (tmp_path / "secret").write_text("s")
    with RawServer(forward()) as proxy:
        with station(idp, tmp_path, secret, f"proxy: http://127.0.0.1:{proxy.port}") as sidecar:
            assert sidecar.ask(TOKEN) == "authenticated"
        assert {heard.split()[0] for heard in proxy.heard} == {b"CONNECT"}
    to_impostor = {f"{HERE}:{idp.url.rpartition(':')[2]}": int(impostor.url.rpartition(":")[2])}
    with (
        RawServer(forward(ports=to_impostor)) as proxy,
        station(idp, tmp_path, secret, f"proxy: http://127.0.0.1:{proxy.port}") as sidecar,
    ):
        assert sidecar.ask(TOKEN) == "introspection_unavailable"
    assert len(questions(idp)) == 1
    assert impostor.seen == []
