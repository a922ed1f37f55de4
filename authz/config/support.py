"""Features that the configuration knows and this version does not have yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from authz.config.model import Config
from authz.config.problems import Problem
from authz.config.walk import find

UNSUPPORTED: Final[Mapping[str, object]] = {
    "server.workers": 1,
}


def check_support(config: Config) -> Iterator[Problem]:
    """Yield a problem for every key in the table that does not hold the only value that works yet."""
    for pattern, only in UNSUPPORTED.items():
        for path, value in find(config, pattern):
            if value != only:
                yield Problem(path=path, message="not supported yet", hint="leave it out")
