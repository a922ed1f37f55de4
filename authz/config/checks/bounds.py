"""Every number, duration and size has a least and a greatest value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from authz.config.model import Config
from authz.config.problems import Problem
from authz.config.quantity import format_duration, parse_duration, parse_size
from authz.config.select import find

# Bounds are written as they would be in the file.
BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "server.workers": ("1", "64"),
    "server.threads": ("1", "256"),
    "server.max_concurrent": ("1", "100000"),
    "server.drain": ("0s", "10m"),
    "issuers.*.leeway": ("0s", "1h"),
    "issuers.*.max_lifetime": ("1s", "87600h"),
    "issuers.*.fetch.timeout": ("1ms", "1m"),
    "issuers.*.fetch.interval": ("1ms", "168h"),
    "issuers.*.fetch.min_interval": ("1ms", "168h"),
    "issuers.*.fetch.max_interval": ("1ms", "168h"),
    "issuers.*.fetch.cooldown": ("1ms", "1h"),
    "issuers.*.fetch.max_wait": ("0s", "10s"),
    "issuers.*.fetch.max_stale": ("1ms", "8760h"),
    "issuers.*.fetch.max_bytes": ("1KiB", "16MiB"),
    "issuers.*.fetch.max_keys": ("1", "1000"),
    "token.max_bytes": ("1KiB", "1MiB"),
    "rules.*.require.max_age": ("1s", "87600h"),
    "telemetry.max_rule_labels": ("0", "10000"),
}


def check_bounds(config: Config) -> Iterator[Problem]:
    """Report what lies outside its bounds."""
    for pattern, (least, most) in BOUNDS.items():
        for path, value in find(config, pattern):
            if not isinstance(value, int | timedelta):
                continue  # an optional value that is not given
            if _excess(value, least) < 0:
                yield Problem(path=path, message=f"must be at least {least}")
            elif _excess(value, most) > 0:
                yield Problem(path=path, message=f"must be at most {most}")


def check_intervals(config: Config) -> Iterator[Problem]:
    """Report a refresh interval outside its own clamps."""
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
    """By how much *value* exceeds *bound*."""
    if isinstance(value, timedelta):
        return (value - parse_duration(bound)).total_seconds()
    return value - (int(bound) if bound.isdigit() else parse_size(bound))
