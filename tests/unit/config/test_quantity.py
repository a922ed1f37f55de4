"""Proves that durations and sizes have exactly one spelling of their unit, and survive being written back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.config.quantity import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(hours=24)),
        ("0s", timedelta()),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    """A whole number and its unit make a duration, and the duration is written the same way."""
    assert parse_duration(text) == duration
    assert format_duration(duration) == text


@pytest.mark.parametrize(
    "text", ["", "30", "s", "1d", "1.5s", "-1s", "1 s", "1S", "1h30m", "30s\n", "٣s", "1234567890s", 30, True, [], None]
)
def test_no_durations(text: object) -> None:
    """Anything else is refused, with the forms that would do."""
    with pytest.raises(ValueError, match="must be a duration such as 250ms, 30s, 5m or 1h, not "):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("16KiB", 16_384), ("1MiB", 1_048_576), ("0KiB", 0), ("1025KiB", 1_049_600)]
)
def test_sizes(text: str, size: int) -> None:
    """A whole number and its unit make a number of bytes, and it is written the same way."""
    assert parse_size(text) == size
    assert format_size(size) == text


@pytest.mark.parametrize("text", ["", "16", "16K", "16KB", "16kib", "1GiB", "1.5MiB", " 1MiB", "1MiB\n", 16, None])
def test_no_sizes(text: object) -> None:
    """Anything else is refused, with the forms that would do."""
    with pytest.raises(ValueError, match="must be a size such as 16KiB or 1MiB, not "):
        parse_size(text)


@given(st.integers(0, 10**9 - 1), st.sampled_from(["ms", "s", "m", "h"]))
def test_durations_survive(number: int, unit: str) -> None:
    """What is written is read as the same duration."""
    duration = parse_duration(f"{number}{unit}")
    assert parse_duration(format_duration(duration)) == duration


@given(st.integers(0, 10**6), st.sampled_from(["KiB", "MiB"]))
def test_sizes_survive(number: int, unit: str) -> None:
    """What is written is read as the same size."""
    size = parse_size(f"{number}{unit}")
    assert parse_size(format_size(size)) == size
