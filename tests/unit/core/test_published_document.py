"""Proves authz.core.published_document, and where the pipeline answers with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from authz.core.decision import Allow
from authz.core.identity import Identity
from authz.core.policy import AccessMode, Policy
from authz.core.published_document import KEYS_PATH, PublishedDocument, is_current
from authz.core.reasons import Reason
from tests.fixtures import DEFAULT_SNAPSHOT, decide, mint, rule

DOCUMENT = PublishedDocument.served_at(f"https://API.test:8443{KEYS_PATH}", '{"keys":[]}', max_age=300)
SERVING = replace(DEFAULT_SNAPSHOT, published=(DOCUMENT,), identity=Identity(token_header="x-token"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_it_is_served_to_anyone(method: str) -> None:
    """Any client gets it, whatever the rules say, and whatever token it has."""
    closed = replace(SERVING, policy=Policy([rule("none", "/**", allow=AccessMode.DENY)]))
    for token in (None, "bad", mint()):
        decision = decide(token, snapshot=closed, method=method, path=f"{KEYS_PATH}?x=1", host="api.test:443")
        assert isinstance(decision, Allow)
        assert (decision.document, decision.etag, decision.max_age) == ('{"keys":[]}', DOCUMENT.etag, 300)
        assert (decision.reason, decision.trail.rule) == (Reason.PUBLIC, None)
        assert "x_token" in decision.remove_headers


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "POST", "path": KEYS_PATH},
        {"path": f"{KEYS_PATH}/x"},
        {"path": "/.well-known/jwks"},
        {"path": KEYS_PATH, "host": "other.test"},
        {"path": KEYS_PATH, "host": ""},
    ],
    ids=str,
)
def test_it_hides_no_path_of_the_upstream(asked: dict[str, Any]) -> None:
    """Another method, path or host is left to the rules."""
    assert decide(mint(), snapshot=SERVING, **asked).reason is Reason.POLICY_DENIED


@pytest.mark.parametrize("url", ["https://a_b.test/a/../b", "https://api.test/a;b", "https://a@b/x", "https:///x"])
def test_a_url_that_is_read_in_more_than_one_way(url: str) -> None:
    """A document is not served where requests for it cannot be told."""
    with pytest.raises(ValueError, match=r"path|host|way"):
        PublishedDocument.served_at(url, "", max_age=1)


def test_a_url_without_a_path() -> None:
    """It is the root."""
    assert PublishedDocument.served_at("https://api.test", "", max_age=1).segments == ()


CONDITIONS = {
    None: False,
    '"other"': False,
    DOCUMENT.etag: True,
    f"W/{DOCUMENT.etag}": True,
    f'"other", {DOCUMENT.etag}': True,
    "*": True,
    '"other", *': False,
    DOCUMENT.etag.strip('"'): False,
}


@pytest.mark.parametrize(("condition", "current"), CONDITIONS.items(), ids=str)
def test_if_none_match(condition: str | None, current: bool) -> None:  # noqa: FBT001 - what is expected
    """A client that names the tag has the document (RFC 9110 section 13.1.2)."""
    assert is_current(condition, DOCUMENT.etag) is current


def test_the_tag_changes_with_the_content() -> None:
    """A strong tag: two documents with one tag are the same."""
    assert replace(DOCUMENT, body='{"keys":[{}]}').etag != DOCUMENT.etag
    assert DOCUMENT.etag.startswith('"')
