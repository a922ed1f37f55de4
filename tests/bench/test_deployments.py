"""Proves that what the bench starts is what it says: configurations that are accepted, and Envoys with one decider."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authz.config.load import parse
from authz.demo.bootstrap import Proxy
from authz.demo.signing import SigningKey
from tests.bench.deployments import Deployments, read_samples
from tests.bench.envoys import write
from tests.bench.setups import BASE, SETUPS, Kind, Setup
from tests.bench.tokens import ALGORITHMS, create_key, mint, prove, write_claims

KEYS = {name: key for name in ("ES256", "EdDSA") if (key := create_key(name)) is not None}


@pytest.mark.parametrize("setup", [one for one in SETUPS.values() if one.kind is Kind.SIDECAR and one.rules == 10])
def test_configurations_are_accepted(setup: Setup, tmp_path: Path) -> None:
    """The sidecar takes what is written for each row, with as many issuers, workers and spans as the row says."""
    sidecar, addresses = Deployments(tmp_path, KEYS).make_sidecar(setup, tmp_path)
    config = parse(sidecar.config_file.read_text(), file="authz.yaml")
    assert len(addresses) == config.server.workers == setup.workers
    assert (len(config.issuers), len(config.rules)) == (setup.issuers, setup.rules)
    assert config.telemetry.traces.sample_ratio == (1.0 if setup.sampled is None else setup.sampled)
    assert config.server.listen.startswith("unix:") is not setup.tcp


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    """A row that the libraries or the sidecar cannot do has a reason; one that they can has none."""
    deployments = Deployments(tmp_path, KEYS)
    assert deployments.why_not(replace(BASE, algorithm="ES256")) == ""
    assert deployments.why_not(replace(BASE, algorithm="ML-DSA-65")) == "the installed cryptography cannot do ML-DSA-65"
    assert "server.workers" in deployments.why_not(replace(BASE, algorithm="ES256", workers=-1))


def test_an_earlier_version_is_asked_for_nothing_that_it_may_not_know(tmp_path: Path) -> None:
    """What is as by default is not written, so that a version from before a setting takes the file."""
    text = Deployments(tmp_path, KEYS)._write(SETUPS["earlier"], tmp_path, listen="unix:/s", admin="127.0.0.1:9")
    written = json.loads(text)
    assert set(written) == {"version", "server", "admin", "issuers", "rules", "identity"}
    assert set(written["issuers"]["idp-0"]) == {"issuer", "audiences", "algorithms", "jwks_file"}
    assert set(written["admin"]) == {"listen"}


@pytest.mark.parametrize(
    ("kind", "filters"),
    [
        (Kind.NOBODY, ["envoy.filters.http.router"]),
        (Kind.ENVOY, ["envoy.filters.http.jwt_authn", "envoy.filters.http.router"]),
        (Kind.ENVOY_CACHED, ["envoy.filters.http.jwt_authn", "envoy.filters.http.router"]),
        (Kind.SIDECAR, ["envoy.filters.http.ext_authz", "envoy.filters.http.router"]),
    ],
)
def test_envoys_differ_in_their_judge(kind: Kind, filters: list[str]) -> None:
    """Each kind has its filter before the router, and Envoy itself answers what is let through."""
    whole: Any = write(Proxy(upstream="127.0.0.1:9", sidecars=("unix:/s",)), kind, jwks="{}")
    manager = whole["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert [one["name"] for one in manager["http_filters"]] == filters
    assert manager["route_config"]["virtual_hosts"][0]["routes"] == [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    ]
    assert ("jwt_cache_config" in json.dumps(whole)) is (kind is Kind.ENVOY_CACHED)


def test_samples_of_workers_are_added_up() -> None:
    """What several workers counted counts once for each."""
    text = "".join(
        "# TYPE authz_signature_cache_requests counter\n"
        f'authz_signature_cache_requests_total{{result="hit",worker="{number}"}} {number}\n'
        for number in (1, 2)
    )
    assert read_samples(text)["authz_signature_cache_requests_total:hit"] == 3


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"RS256"}))
def test_tokens_are_distinct_and_of_one_length(algorithm: str) -> None:
    """A pool can be cut into tokens by counting bytes, and holds none twice."""
    key = create_key(algorithm)
    if key is None:
        pytest.skip(f"the installed cryptography cannot do {algorithm}")
    lines = mint(algorithm, key.jwk.export(), 1_700_000_000, range(99_999, 100_002)).splitlines()
    assert len(set(lines)) == 3
    assert len(set(map(len, lines))) == 1
    assert write_claims(1, 0) != write_claims(2, 0)


def test_proofs_are_distinct_and_of_one_length() -> None:
    """Each line is the one token, a space and a proof of its own."""
    client = SigningKey.create("ES256")
    lines = prove("ES256", client.jwk.export(), "a.b.c", 1_700_000_000, range(99_999, 100_002)).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["a.b.c"] * 3
    assert len({line.partition(" ")[2].split(".")[1] for line in lines}) == 3
    assert len(set(map(len, lines))) == 1
