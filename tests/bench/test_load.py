"""Proves that what wrk says is read, and that silence is not taken for success."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.load import Load, MissingToolError, SpoiltError, check_tools, parse

SAID = """Running 1m test @ http://127.0.0.1:10000
  1 threads and 32 connections
^C  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.50ms  512.00us   9.00ms   80.00%
Requests/sec:  12000.00
{"requests": 6000, "us": 500000, "refused": 2, "broken": 1, "p50_us": 450, "p99_us": 1250}
"""


def test_parse() -> None:
    """The line of the script is found among wrk's own, and rates and times have their units."""
    load = parse(SAID)
    assert load == Load(requests=6000, seconds=0.5, refused=2, broken=1, p50_ms=0.45, p99_ms=1.25)
    assert load.rps == 12_000


def test_nothing_said() -> None:
    """A wrk that could not start is an error that shows its words."""
    with pytest.raises(SpoiltError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_missing_tool_is_named_with_its_package() -> None:
    """Where wrk is missing, the error says how to get it; where it is there, nothing is said."""
    with pytest.raises(MissingToolError, match="apt-get install wrk"):
        check_tools(lambda _: None)
    check_tools(Path)
