"""Proves that a need is a value: two that lack the same are one."""

from __future__ import annotations

from authz.core.needs import Need


def test_a_need_is_a_value() -> None:
    """It may be a key of a mapping; a key without an id is another need than one with an empty id."""
    assert {Need("key", "a", "k1"), Need("key", "a", "k1")} == {Need("key", "a", "k1")}
    assert Need("key", "a", None) != Need("key", "a", "")
