"""Leaves the tests of this folder to `make cluster`, which says that it is the one to run them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest
import trustme

from tests.chart.conftest import charts
from tests.cluster.apiserver import Cluster, make_keys, running_api_server, running_etcd
from tests.tools import ROOT

__all__ = ["charts", "cluster", "cluster_of_ec_keys"]

collect_ignore_glob = [] if os.environ.get("CLUSTER") else ["test_*.py"]

_CRDS: Final = ROOT / ".tools/definitions"


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Cluster]]:
    """One cluster of two API servers, as while its keys are rotated: one signs with an RSA key, one with an EC key."""
    folder = tmp_path_factory.mktemp("cluster")
    keys = make_keys(folder)
    ca = trustme.CA()
    with ExitStack() as stack:
        etcd = stack.enter_context(running_etcd(folder))
        servers = {}
        for algorithm, key in keys.items():
            order = [key, *(other for other in keys.values() if other != key)]
            servers[algorithm] = stack.enter_context(running_api_server(folder / algorithm, etcd, order, ca=ca))
        first = servers["RS256"]
        for file in sorted(_CRDS.glob("*.jsonl")):
            first.apply(*map(json.loads, file.read_text(encoding="utf-8").splitlines()))
        first.kubectl("wait", "--for=condition=Established", "--timeout=300s", "crd", "--all")
        yield servers


@pytest.fixture(scope="session")
def cluster(clusters: dict[str, Cluster]) -> Cluster:
    """The cluster, by the server that signs with RS256."""
    return clusters["RS256"]


@pytest.fixture(scope="session")
def cluster_of_ec_keys(clusters: dict[str, Cluster]) -> Cluster:
    """The same cluster, by the server that signs with ES256."""
    return clusters["ES256"]
