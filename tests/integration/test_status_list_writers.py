"""Proves that lists of two libraries are read as they are meant: of every width, of many sizes, up to both edges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from authz.core.authorize import authorize
from authz.core.reasons import Reason
from authz.core.status_list import SUSPENDED, StatusReference, StatusRules, read_status_list, status_list_need
from tests.cases.status_list import RULES, URI, referring, world
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import A_RSA, A, T, ask
from tests.tools import TOOLS, path

BITS: Final = (1, 2, 4, 8)
SIZES: Final = (1, 2, 3, 7, 8, 9, 63, 64, 65, 1000, 100_000)
EDGES: Final = ("all valid", "first", "last", "any")
_HERE: Final = Path(__file__).parent
JS, PYTHON = "@sd-jwt/jwt-status-list", "status-lists"
WRITERS: Final = [
    pytest.param(JS, marks=pytest.mark.needs("node", JS)),
    pytest.param(PYTHON, marks=pytest.mark.needs(PYTHON)),
]


def make_statuses(bits: int, size: int, edge: str) -> list[int]:
    """Choose the statuses of one list."""
    largest = (1 << bits) - 1
    if edge == "any":
        random = Random(bits * size)  # noqa: S311 - a seeded choice
        return [random.randint(0, largest) for _ in range(size)]
    set_at = {"first": 0, "last": size - 1}.get(edge)
    return [largest if index == set_at else 0 for index in range(size)]


def write(writer: str, lists: list[tuple[int, list[int]]]) -> list[str]:
    """Have a library write the lists; sign them."""
    claims = {"iss": A, "sub": URI, "iat": T - 60, "exp": T + 3600, "ttl": 300}
    given = json.dumps({"kid": A_RSA.kid, "alg": "RS256", "claims": claims, "lists": lists})
    if writer == JS:
        command, more = [path("node"), str(_HERE / "status_lists.mjs"), str(TOOLS / "node_modules")], {}
    else:
        command, more = [sys.executable, str(_HERE / "status_lists.py")], {"PYTHONPATH": path(PYTHON)}
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
        env={**os.environ, **more},
    )
    assert done.returncode == 0, done.stderr
    written: list[dict[str, Any]] = json.loads(done.stdout)
    return [
        A_RSA.sign_bytes(json.dumps(each["payload"]).encode(), header=json.dumps(each["header"]).encode())
        for each in written
    ]


@pytest.mark.parametrize("writer", WRITERS)
def test_every_entry_is_read_as_it_was_written(writer: str) -> None:
    """Each of some 4 million entries; beyond the last octet there is none, however the library pads."""
    lists = [(bits, make_statuses(bits, size, edge)) for bits in BITS for size in SIZES for edge in EDGES]
    for (bits, statuses), text in zip(lists, write(writer, lists), strict=True):
        listing = read_status_list(text, max_bytes=1 << 20, max_inflated=1 << 20)
        assert (listing.bits, listing.subject) == (bits, URI)
        assert [listing[index] for index in range(len(statuses))] == statuses
        octets = -(-len(statuses) * bits // 8)
        assert len(listing) == octets * 8 // bits
        with pytest.raises(IndexError):
            listing[len(listing)]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_token_is_decided_by_its_entry(writer: str) -> None:
    """VALID passes, INVALID never, SUSPENDED where it is accepted, and an index beyond the list is no answer."""
    statuses = [0, 1, SUSPENDED, 3]
    (text,) = write(writer, [(2, statuses)])
    listing = read_status_list(text, max_bytes=1 << 20, max_inflated=1 << 20)
    facts = {status_list_need(StatusReference(0, URI), "a"): listing}
    lenient = StatusRules(uris=RULES.uris, accepted=frozenset({0, SUSPENDED}))

    def reasons(rules: StatusRules) -> list[Reason]:
        return [authorize(ask(referring(index)), world(rules), T, facts=facts).reason for index in range(5)]

    revoked, beyond = Reason.TOKEN_REVOKED, Reason.REVOCATIONS_UNAVAILABLE
    assert reasons(RULES) == [Reason.AUTHENTICATED, revoked, revoked, revoked, beyond]
    assert reasons(lenient) == [Reason.AUTHENTICATED, revoked, Reason.AUTHENTICATED, revoked, beyond]
