"""Envoy's bootstrap, evaluated by the real Envoy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from authz.demo.bootstrap import Proxy, Tls, bootstrap
from authz.demo.envoy import validate
from authz.demo.process import PartFailed

PLAIN = Proxy(upstream="127.0.0.1:8080", sidecars=("unix:/run/authz/authz.sock",))


@pytest.mark.needs("envoy")
@pytest.mark.parametrize(
    "proxy",
    [
        PLAIN,
        replace(PLAIN, sidecars=("127.0.0.1:9191",)),
        replace(PLAIN, sidecars=("unix:/run/authz/authz-0.sock", "unix:/run/authz/authz-1.sock")),
        replace(PLAIN, failure_mode_allow=True, encode_raw_headers=True, normalize_path=False),
        replace(PLAIN, metadata_namespaces=("example",), timeout_ms=250, max_request_headers_kb=96),
        replace(PLAIN, route_context={"/orders": {"authz.rule": "orders"}, "/": {}}),
        replace(PLAIN, trace_collector="127.0.0.1:4317"),
    ],
)
def test_envoy_accepts_the_bootstrap(proxy: Proxy, tmp_path: Path) -> None:
    """Whatever differs between one proxy and another, Envoy itself takes it."""
    validate(proxy, tmp_path)


@pytest.mark.needs("envoy")
def test_envoy_accepts_a_listener_that_asks_for_client_certificates(tmp_path: Path) -> None:
    """A listener with mutual TLS is valid too."""
    ca = trustme.CA()
    server = ca.issue_cert("127.0.0.1")
    files = {"ca": ca.cert_pem, "key": server.private_key_pem, "cert": server.cert_chain_pems[0]}
    for name, pem in files.items():
        pem.write_to_path(str(tmp_path / name))

    validate(replace(PLAIN, tls=Tls(tmp_path / "cert", tmp_path / "key", tmp_path / "ca")), tmp_path)


@pytest.mark.needs("envoy")
def test_what_envoy_refuses_is_explained(tmp_path: Path) -> None:
    """A bootstrap that Envoy refuses is a failure with its own words, and with the path of its log."""
    with pytest.raises(PartFailed) as failure:
        validate(replace(PLAIN, timeout_ms=-1), tmp_path)

    assert "Envoy rejects its bootstrap" in str(failure.value)
    assert "Invalid duration" in str(failure.value)
    assert str(tmp_path / "envoy-validate.log") in str(failure.value)


def test_the_more_specific_route_comes_first() -> None:
    """Envoy takes the first route that matches, so a longer prefix must stand above its beginnings."""
    context = {"/a": {"n": "1"}, "/a/b": {"n": "2"}}
    manager = bootstrap(replace(PLAIN, route_context=context))["static_resources"]["listeners"][0]  # type: ignore[index]
    routes = manager["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]

    assert [route["match"]["prefix"] for route in routes] == ["/a/b", "/a", "/"]
