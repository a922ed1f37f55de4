"""Proves what `authz serve` guesses of a configuration before it is parsed."""

from __future__ import annotations

import pytest

from authz.cli.serve import SEVERAL_WORKERS


@pytest.mark.parametrize("text", ["workers: 1", '"workers": 1,', "{workers:  1}", "workers:1 # one", "networkers: 2"])
def test_one_worker_needs_no_fork_server(text: str) -> None:
    """To start one that is not needed would cost half of a start."""
    assert SEVERAL_WORKERS.search(text) is None


@pytest.mark.parametrize("text", ["workers: 2", '"workers": 2,', "workers: 10", "{workers:12}", "'workers' : 3"])
def test_several_workers_are_forked(text: str) -> None:
    """What they are forked from can be started while the configuration is checked."""
    assert SEVERAL_WORKERS.search(text)
