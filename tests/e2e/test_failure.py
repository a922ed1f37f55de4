"""When parts fail, or clients try to make them fail, no one passes who should not."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from authz.demo.bootstrap import Tls
from tests.e2e.harness import Stage
from tests.fakes.ports import free_address
from tests.fakes.waiting import wait_until


def test_without_a_sidecar_nobody_passes_and_with_one_again_they_do(own_stage: Callable[..., Stage]) -> None:
    """A killed sidecar closes the door, public paths too; started again on the same socket, it opens it."""
    stage = own_stage()
    token = stage.alpha.mint()
    assert stage.ask(token=token).status == 200

    stage.sidecar.process.kill()

    for path in ("/orders/7", "/healthz"):
        reply = stage.ask(path, token=token)
        assert (reply.status, reply.seen) == (503, None)

    stage.sidecar.start()

    wait_until(lambda: stage.ask(token=token).status == 200)


def test_a_sidecar_that_is_told_to_stop_leaves_in_order(own_stage: Callable[..., Stage]) -> None:
    """SIGTERM ends it with status 0, and its socket is gone."""
    stage = own_stage()

    stage.sidecar.stop()

    assert stage.sidecar.process.status == 0
    assert not (stage.sidecar.config_file.parent / "authz.sock").exists()


def test_a_refusal_never_fails_open(own_stage: Callable[..., Stage]) -> None:
    """Where the operator let Envoy pass requests on errors, our refusals are still refusals, 5xx included."""
    stage = own_stage(failure_mode_allow=True)

    assert stage.ask().refused == "token_missing"
    assert stage.ask(token="bad").refused == "token_malformed"
    assert stage.ask("/orders%2F7").refused == "path_ambiguous"
    assert stage.ask(token=stage.gone.mint()).refused == "keys_unavailable"


def test_only_the_operator_can_choose_to_fail_open(own_stage: Callable[..., Stage]) -> None:
    """Missing keys may be Envoy's business, where configuration and Envoy both say so; a bad token never is."""
    stage = own_stage(failure_mode_allow=True, unavailable="error")

    assert stage.ask(token=stage.gone.mint()).status == 200
    assert stage.ask(token=stage.alpha.mint(aud="billing")).refused == "audience_mismatch"
    assert stage.ask().refused == "token_missing"


def test_an_error_is_a_refusal_where_envoy_fails_closed(own_stage: Callable[..., Stage]) -> None:
    """Where keys are missing and Envoy is not configured to let pass, the client gets the same 503."""
    stage = own_stage(unavailable="error")

    reply = stage.ask(token=stage.gone.mint())

    assert (reply.status, reply.refused) == (503, "keys_unavailable")
    assert reply.answer.header("retry-after") == "1"


@pytest.mark.parametrize("kilobytes", [20, 60])
def test_a_huge_tracestate_does_not_fail_open(own_stage: Callable[..., Stage], kilobytes: int) -> None:
    """A tracing Envoy copies the client's tracestate into our metadata: its size must not become an error."""
    stage = own_stage(failure_mode_allow=True, trace_collector=free_address(), max_request_headers_kb=96)
    parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    state = ("tracestate", ",".join(f"k{number}={'x' * 240}" for number in range(kilobytes * 4)))

    denied = stage.ask(headers=[parent, state])
    allowed = stage.ask(token=stage.alpha.mint(), headers=[parent, state])

    assert (denied.status, denied.refused) == (401, "token_missing")
    assert (allowed.status, allowed.allowed) == (200, "authenticated")


def test_raw_headers_are_read_too(own_stage: Callable[..., Stage]) -> None:
    """With encode_raw_headers Envoy fills another field: tokens, repetition and forgery are evaluated all the same."""
    stage = own_stage(encode_raw_headers=True)
    bearer = ("authorization", f"Bearer {stage.alpha.mint()}")

    allowed = stage.ask(headers=[bearer, ("x_auth_subject", "admin")])
    assert (allowed.status, allowed.allowed) == (200, "authenticated")
    assert allowed.identity is not None
    assert dict(allowed.identity).keys() == {"x-auth-issuer", "x-auth-subject"}
    assert stage.ask().refused == "token_missing"
    assert stage.ask(headers=[bearer, bearer]).refused == "token_multiple"


def test_a_path_that_nobody_normalised_is_refused(own_stage: Callable[..., Stage]) -> None:
    """Where Envoy passes paths on as they came, a spelling that an upstream may read otherwise is not evaluated."""
    stage = own_stage(normalize_path=False)

    for path in ("/healthz/../admin/users", "/healthz/%2e%2e/admin/users", "/healthz\\..\\admin"):
        assert stage.ask(path, token=stage.alpha.mint()).refused == "path_ambiguous"
    assert stage.ask(token=stage.alpha.mint()).status == 200


def test_context_comes_from_the_route(own_stage: Callable[..., Stage]) -> None:
    """What the operator set for a route selects a rule."""
    stage = own_stage(route_context={"/partner": {"authz.rule": "partner"}})

    assert stage.ask("/partner/1", token=stage.beta.mint()).status == 200
    assert stage.ask("/partner/1", token=stage.alpha.mint()).refused == "policy_denied"


def test_a_token_bound_to_a_certificate_needs_that_certificate(own_stage: Callable[..., Stage], tmp_path: Path) -> None:
    """A stolen token is worthless without the client certificate that it is bound to (RFC 8705)."""
    ca = trustme.CA()
    server = ca.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(str(tmp_path / "key"))
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    ca.cert_pem.write_to_path(str(tmp_path / "ca"))
    stage = own_stage(tls=Tls(tmp_path / "cert", tmp_path / "key", tmp_path / "ca"))
    owner, thief = ca.issue_cert("owner.test"), ca.issue_cert("thief.test")
    token = stage.alpha.mint(cnf={"x5t#S256": thumbprint(owner)})

    assert stage.ask(token=token, tls=client_context(ca, owner)).status == 200
    stolen = stage.ask(token=token, tls=client_context(ca, thief))
    assert (stolen.status, stolen.refused) == (401, "token_bound")


def thumbprint(leaf: trustme.LeafCert) -> str:
    """The SHA-256 thumbprint of a certificate, as RFC 8705 section 3.1 writes it."""
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def client_context(ca: trustme.CA, leaf: trustme.LeafCert) -> ssl.SSLContext:
    """TLS for a client that shows this certificate."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    leaf.configure_cert(context)
    return context
