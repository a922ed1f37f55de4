"""Proves that features which are not there yet are understood, and refused by name."""

from __future__ import annotations

import pytest

from authz.config.load import load
from authz.config.support import UNSUPPORTED
from authz.config.walk import find
from tests.unit.config.sample import SAMPLE, configure, problems, small

PLACED = {
    "server.workers": small(more="server: {workers: 2}\n"),
    "issuers.*.fetch.proxy": small(issuer="fetch: {proxy: 'http://proxy.internal:3128'}"),
    "issuers.*.cache_dir": small(issuer="cache_dir: /var/cache/authz"),
    "rules.*.require.when": small(rule="require: {when: claims.sub == params.id}"),
    "resource": small(more="resource: {identifier: 'https://api.example.com'}\n"),
}


@pytest.mark.parametrize("pattern", UNSUPPORTED)
def test_unsupported(pattern: str) -> None:
    """Each key in the table is refused with one message where it holds something else than its default."""
    [problem] = problems(PLACED[pattern])
    assert problem.endswith(f"{pattern.rpartition('.')[2]}: not supported yet (leave it out)")


@pytest.mark.parametrize("pattern", UNSUPPORTED)
def test_table_names_keys_that_exist(pattern: str) -> None:
    """Each key in the table exists, and holds its default in the sample."""
    values = [value for _, value in find(load(SAMPLE), pattern)]
    assert values
    assert set(values) == {UNSUPPORTED[pattern]}


def test_defaults_are_supported() -> None:
    """Nothing that is left out is missed."""
    configure()
