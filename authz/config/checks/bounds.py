"""Checks of the minimum and maximum of numbers, durations and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from authz.config.model import Config
from authz.config.problems import Problem
from authz.config.quantity import format_duration, parse_duration, parse_size
from authz.config.select import select
from authz.config.settings import SETTINGS

BOUNDS: Final = {path: setting.bounds for path, setting in SETTINGS.items() if setting.bounds is not None}


def check_bounds(config: Config) -> Iterator[Problem]:
    """Report values outside their bounds."""
    for pattern, (minimum, maximum) in BOUNDS.items():
        for path, value in select(config, pattern):
            if not isinstance(value, int | timedelta):
                continue  # an optional value without a value
            if _excess(value, minimum) < 0:
                yield Problem(path=path, message=f"must be at least {minimum}")
            elif _excess(value, maximum) > 0:
                yield Problem(path=path, message=f"must be at most {maximum}")


def check_intervals(config: Config) -> Iterator[Problem]:
    """Report a refresh interval that is not between min_interval and max_interval."""
    for name, issuer in config.issuers.items():
        fetch, path = issuer.fetch, ("issuers", name, "fetch")
        shortest, longest = format_duration(fetch.min_interval), format_duration(fetch.max_interval)
        if fetch.min_interval > fetch.max_interval:
            message = f"min_interval ({shortest}) must not be longer than max_interval ({longest})"
            yield Problem(path=path, message=message)
        elif not fetch.min_interval <= fetch.interval <= fetch.max_interval:
            message = f"must lie between min_interval ({shortest}) and max_interval ({longest})"
            yield Problem(path=(*path, "interval"), message=message)


def _excess(value: int | timedelta, bound: str) -> float:
    """Return by how much *value* exceeds *bound*."""
    if isinstance(value, timedelta):
        return (value - parse_duration(bound)).total_seconds()
    return value - (int(bound) if bound.isdigit() else parse_size(bound))
