"""Proves the wiring of authz.runtime.parts that bounds something."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.config.model import Server
from authz.envoy.transport.choice import POOL, Choice, load_cygrpc
from authz.runtime.lanes import max_waiting
from authz.runtime.parts import read_nonce_secret
from tests.unit.config.sample import configure


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


def test_nonces_have_a_secret_of_all_replicas_if_there_is_one(tmp_path: Path) -> None:
    """That of revocations is never used itself; one of their own comes first; without both, each start has another."""
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.write_bytes(b"s" * 32)
    own.write_bytes(b"n" * 32)
    revocations = f"revocation: {{shared: {{secret_file: {shared}}}}}\n"
    both = f"{revocations}dpop: {{nonce_secret_file: {own}}}\n"
    derived = read_nonce_secret(configure(more=revocations))
    assert derived == read_nonce_secret(configure(more=revocations))
    assert len(derived) == 32
    assert derived != shared.read_bytes()
    assert read_nonce_secret(configure(more=both)) == own.read_bytes()
    assert read_nonce_secret(configure()) != read_nonce_secret(configure())
    shared.write_bytes(b"t" * 32)
    assert read_nonce_secret(configure(more=revocations)) != derived
    shared.write_bytes(b"t" * 31)
    with pytest.raises(OSError, match=r"revocation.shared.secret_file .*: has less than 32 octets"):
        read_nonce_secret(configure(more=revocations))
