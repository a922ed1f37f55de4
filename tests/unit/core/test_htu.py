"""Proves authz.core.htu against what real clients signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.htu import is_same_url, normalize_htu

CLIENTS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data/dpop/clients.json").read_text("utf-8"))
# urllib takes what stands behind the last semicolon of a path for something of its own.
DROPS_PATH_PARAMETERS = ("atproto-oauth 0.1.0", "https://api.example.com/a'b(c)")


@pytest.mark.parametrize("row", CLIENTS["signed"], ids=lambda row: f"{row['client']} {row['htu']}")
def test_what_clients_sign_is_what_they_ask_for(row: dict[str, str]) -> None:
    """Each client has its own way to write a URL, and its HTTP library another; both mean the same."""
    expected = (row["client"], row["htu"]) != DROPS_PATH_PARAMETERS
    assert is_same_url(row["htu"], row["asked"]) is expected


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://a.test", "https://a.test/"),
        ("HTTPS://A.test:443/B?c=d#e", "https://a.test/B"),
        ("http://a.test:80", "http://a.test/"),
        ("http://a.test:443/", "http://a.test:443/"),
        ("https://a.test:/", "https://a.test/"),
        ("https://me:secret@a.test/", "https://a.test/"),
        ("https://[2001:DB8:0::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("https://bücher.test/", "https://xn--bcher-kva.test/"),
        ("https://b%C3%BCcher.test/", "https://xn--bcher-kva.test/"),
        ("https://a.test/%7e/%c3%a9/%2f/é/ /", "https://a.test/~/%C3%A9/%2F/%C3%A9/%20/"),
        ("https://a.test/a/./b/../c", "https://a.test/a/c"),
        ("https://a.test/a/%2e%2E/b/.", "https://a.test/b/"),
        ("https://a.test/../..", "https://a.test/"),
        ("https://a.test/a//b///", "https://a.test/a/b/"),
        ("https://a.test/%", "https://a.test/%"),
        ("ftp://a.test/", None),
        ("a.test/b", None),
        ("https:/a.test/b", None),
        ("https:///b", None),
        ("https://a.test:x/", None),
        ("https://[::x]/", None),
        ("https://[1:2/", None),
        ("https://a b/", None),
        ("https://%FF/", None),
        ("https://straße.test/", None),
        (f"https://{'a' * 300}/", None),
        (f"https://{'é' * 200}/", None),
        ("https://a.test\\@b.test/", None),
        ("https://a.test/\n", None),
        ("https://a.test/\ud800", None),
        ("", None),
    ],
)
def test_normal_form(url: str, normal: str | None) -> None:
    """One form for all URLs of a resource; none for what is no URL."""
    assert normalize_htu(url) == normal


def test_what_is_no_url_is_the_same_as_nothing() -> None:
    """Two URLs that cannot be read are not alike for it."""
    assert not is_same_url("nothing", "nothing")


@pytest.mark.parametrize(
    "other",
    ["https://b.test/a", "http://a.test/a", "https://a.test:444/a", "https://a.test/a/", "https://a.test/A",
     "https://a.test/a%2Fb", "https://a.test/a/b", "https://a.test@b.test/a", "https://b.test/https://a.test/a"],
)  # fmt: skip
def test_another_resource_is_another(other: str) -> None:
    """A proof for one resource is none for another."""
    assert not is_same_url(other, "https://a.test/a")


@given(st.text(max_size=40), st.sampled_from(["https://a.test/", "https://", "", "https://a.test:"]))
def test_the_normal_form_is_stable(text: str, before: str) -> None:
    """What is normal stays as it is, and nothing raises."""
    normal = normalize_htu(before + text)
    assert normal is None or normalize_htu(normal) == normal
