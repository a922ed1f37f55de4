"""Proves the wiring of authz.runtime.parts that bounds something."""

from __future__ import annotations

import pytest

from authz.config.model import Server
from authz.envoy.transport.choice import POOL, Choice, load_cygrpc
from authz.runtime.parts import max_waiting


@pytest.mark.parametrize(
    ("transport", "max_concurrent", "waiting"),
    [
        (Choice("cygrpc", load_cygrpc()), 4096, 1024),
        (Choice("cygrpc", load_cygrpc()), 2, 1),
        (POOL, 4096, 64),
        (POOL, 128, 32),
    ],
)
def test_checks_that_wait_leave_room_for_others(transport: Choice, max_concurrent: int, waiting: int) -> None:
    """With the pool each waiting check holds one of its threads, whatever `max_concurrent` is."""
    assert max_waiting(Server(max_concurrent=max_concurrent), transport) == waiting
