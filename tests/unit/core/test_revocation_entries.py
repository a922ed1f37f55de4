"""Proves authz.core.revocation_entries: each form of entry, each error by its entry, and that one hides no other."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import pytest

from authz.core.revocation import RevocationEntry, RevokedBy
from authz.core.revocation_entries import parse_entry, parse_revocation_list, write_entry
from tests.fixtures import A, T

GOOD: Final[dict[str, tuple[dict[str, object], RevocationEntry]]] = {
    "token": ({"iss": A, "jti": "1"}, RevocationEntry(RevokedBy.TOKEN, A, "1")),
    "session": ({"iss": A, "sid": "s"}, RevocationEntry(RevokedBy.SESSION, A, "s")),
    "subject": (
        {"iss": A, "sub": "eve", "before": T, "until": T + 5},
        RevocationEntry(RevokedBy.SUBJECT, A, "eve", T, T + 5),
    ),
    "client": ({"iss": A, "client": "shop", "before": None}, RevocationEntry(RevokedBy.CLIENT, A, "shop")),
    "key": ({"iss": A, "key": "k" * 1024}, RevocationEntry(RevokedBy.KEY, A, "k" * 1024)),
    "email": ({"iss": A, "email": "Eve@Example.com"}, RevocationEntry(RevokedBy.EMAIL, A, "eve@example.com")),
    "digest": ({"iss": A, "digest": "0" * 64}, RevocationEntry(RevokedBy.DIGEST, A, "0" * 64)),
}
BAD: Final[dict[str, tuple[object, str]]] = {
    "a text": ("eve", "is not an object"),
    "no issuer": ({"sub": "eve"}, "iss is not a text of 1 to 1024 characters"),
    "nothing": ({"iss": A}, "must have one of jti, digest, sid, sub, client, key, email"),
    "two": ({"iss": A, "sub": "eve", "sid": "s"}, "must have one of .*, and has several"),
    "misspelt": ({"iss": A, "sub": "eve", "befor": T}, '"befor" is not a member of an entry'),
    "empty": ({"iss": A, "sub": ""}, "sub is not a text"),
    "too long": ({"iss": A, "sub": "e" * 1025}, "sub is not a text"),
    "a number": ({"iss": A, "jti": 7}, "jti is not a text"),
    "a time as text": ({"iss": A, "sub": "eve", "before": "2026-11-30"}, "before is not a time in seconds"),
    "a boolean time": ({"iss": A, "sub": "eve", "until": True}, "until is not a time in seconds"),
    "a time in milliseconds": ({"iss": A, "sub": "eve", "before": T * 1000}, "before is not a time in seconds"),
    "a digest in upper case": ({"iss": A, "digest": "A" * 64}, "digest is not SHA-256"),
}


@pytest.mark.parametrize("name", GOOD)
def test_each_form(name: str) -> None:
    """What is read is what is written, and is read again as the same."""
    members, entry = GOOD[name]
    assert parse_entry(members) == entry
    assert parse_entry(json.loads(write_entry(entry))) == entry


@pytest.mark.parametrize("name", BAD)
def test_each_error(name: str) -> None:
    """An entry that is not understood is refused with the member that is wrong."""
    with pytest.raises(ValueError, match=BAD[name][1]):
        parse_entry(BAD[name][0])


def test_an_error_names_its_entry_and_the_others_count() -> None:
    """A typo of one line does not let the others pass."""
    document = json.dumps({"revoked": [{"iss": A, "sid": "1"}, {"iss": A, "sidd": "2"}, {"iss": A, "sid": "3"}]})
    read = parse_revocation_list(document.encode(), max_entries=3)
    assert [entry.value for entry in read.entries] == ["1", "3"]
    assert read.errors == ((2, '"sidd" is not a member of an entry'),)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"entries": []}, "is neither"),
        ("text", "is neither"),
        ([{"iss": A}], "entry 1: must have one of"),
        ([{"iss": A, "sid": str(number)} for number in range(4)], "has 4 entries, at most 3"),
    ],
)
def test_a_document_that_is_none(document: Any, why: str) -> None:  # noqa: ANN401 - JSON
    """Nothing of it is used: the last good list stays."""
    with pytest.raises(ValueError, match=why):
        parse_revocation_list(json.dumps(document).encode(), max_entries=3)


def test_an_empty_list_revokes_nothing() -> None:
    """All entries may be taken back, and a list may be an array alone; an entry without an end lasts as long as it."""
    assert parse_revocation_list(b"[]", max_entries=3).entries == ()
    (entry,) = parse_revocation_list(json.dumps([{"iss": A, "sid": "1"}]).encode(), max_entries=3).entries
    assert (entry.before, entry.until) == (None, math.inf)
