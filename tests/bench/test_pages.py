"""Proves that a page which was not shown spoils the row, and that each is timed."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from authz.demo.loopback import LoopbackServer, Response
from tests.bench.load import SpoiltError
from tests.bench.pages import PATHS, Visitor, describe
from tests.fakes.waiting import wait_until


def test_pages_are_timed_in_turn() -> None:
    """Each is asked for while the load lasts, and its time is noted by its path."""
    with LoopbackServer(lambda _: Response(HTTPStatus.OK)) as server:
        visitor = Visitor(server.url)
        with visitor.visiting({0}) as took:
            wait_until(lambda: len(took) >= 2)
    assert list(visitor.times) == list(PATHS[: len(visitor.times)])
    assert sum(map(len, visitor.times.values())) == len(took)


def test_a_page_that_fails_spoils_the_row() -> None:
    """A refusal is fast, and means nothing."""
    with LoopbackServer(lambda _: Response(HTTPStatus.FORBIDDEN)) as server:
        visitor = Visitor(server.url)
        with pytest.raises(SpoiltError, match="was answered 403"), visitor.visiting({0}):
            pass


def test_the_middle_of_each_page_is_said() -> None:
    """In milliseconds."""
    assert describe({"/": [1.0, 9.0, 2.0], "/console/try": [4.4]}) == "ms a page: / 2, /console/try 4"
