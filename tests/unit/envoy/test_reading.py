"""Proves that the thread that polls is the one that reads a Unix socket: the effect of a gRPC experiment.

`authz serve` switches `event_engine_listener` off. Experiments end without notice: a release that no longer knows the
name takes the setting, says nothing, and reads on threads of its own again: every check costs half as much again.
"""

from __future__ import annotations

import os
import subprocess
import sys

from authz.cli.serve import READ_WHILE_POLLING
from tests.tools import ROOT


def reader(**environment: str) -> str:
    """Ask a process which of its threads reads: `poller`, or `others`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.envoy.reading"],
        cwd=ROOT,
        env=own | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_who_polls_reads() -> None:
    """As `authz serve` sets gRPC up for a Unix socket, no thread of gRPC's reads it."""
    assert reader() == "poller"


def test_without_the_setting_others_read() -> None:
    """The question is not blind: where the operator's own setting goes before ours, gRPC's threads read.

    When this fails, the setting is needless, or threads are no longer seen.
    """
    (name,) = READ_WHILE_POLLING
    assert reader(**{name: ""}) == "others"
