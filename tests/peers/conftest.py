"""Leaves the tests of this folder to `make peers`, which says that it is the one to run them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.peers.keycloak import running_keycloak

collect_ignore_glob = [] if os.environ.get("PEERS") else ["test_*.py"]


@pytest.fixture(scope="session")
def keycloak_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Keycloak for all, which takes a minute to start; each file makes a realm of its own."""
    with running_keycloak(tmp_path_factory.mktemp("keycloak")) as url:
        yield url
