"""Proves that what is counted without a lock is counted exactly, and shown as a counter."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from prometheus_client import CollectorRegistry, generate_latest

from authz.telemetry.keys import KeyMetrics, Tally


def test_no_count_is_lost_between_threads() -> None:
    """Eight threads count at once; each count is there."""
    tally = Tally()

    def work(_: int) -> None:
        for _ in range(10_000):
            tally.add()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert tally.total == 80_000


def test_unknown_key_ids_are_a_counter_from_the_start() -> None:
    """Each configured issuer has its number before the first token, and keeps it when a reload makes a new feed."""
    registry = CollectorRegistry()
    metrics = KeyMetrics(registry)
    metrics.for_issuer("a").count_unknown_kid()
    metrics.for_issuer("b")
    metrics.for_issuer("a").count_unknown_kid()
    text = generate_latest(registry).decode()
    assert "# TYPE authz_keys_unknown_kid_total counter" in text
    assert 'authz_keys_unknown_kid_total{issuer="a"} 2.0' in text
    assert 'authz_keys_unknown_kid_total{issuer="b"} 0.0' in text
