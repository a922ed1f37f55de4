"""Proves that the last use of a key is noted, for successes only, and forgotten with the key."""

from __future__ import annotations

import pytest

from authz.core.keys import KeySet, verify_by_keys
from authz.core.reasons import Rejected
from authz.core.token import parse_token
from authz.feeds.key_usage import KeyUsage
from tests.unit.feeds.rig import K1, K2, document


def test_last_use() -> None:
    """A verified signature is noted; a forged one is not; a key that is gone leaves nothing behind."""
    keys = KeySet.from_json(document(K1, K2))
    usage = KeyUsage(lambda: 42.0)
    verify = usage.record_use(verify_by_keys)
    verify("a", keys.keys[:1], parse_token(K1.sign({"sub": "alice"})))
    with pytest.raises(Rejected):
        verify("a", keys.keys[1:], parse_token(K1.sign({"sub": "alice"})))
    assert [usage.last_used("a", key) for key in keys.keys] == [42.0, None]
    assert usage.last_used("b", keys.keys[0]) is None
    usage.retain_only("b", ())
    assert usage.last_used("a", keys.keys[0]) == 42.0
    usage.retain_only("a", keys.keys[1:])
    assert usage.last_used("a", keys.keys[0]) is None
