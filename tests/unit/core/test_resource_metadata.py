"""Proves authz.core.resource_metadata, and where the pipeline answers with it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from authz.core.decision import Allow, Deny
from authz.core.policy import AccessMode, Policy
from authz.core.reasons import Reason
from authz.core.resource_metadata import WELL_KNOWN, ProtectedResource
from authz.core.snapshot import Responses
from tests.fixtures import DEFAULT_SNAPSHOT, decide, mint, rule


def describe(identifier: str, **changes: Any) -> ProtectedResource:  # noqa: ANN401 - members of several types
    """Describe a resource that says nothing else."""
    empty: dict[str, Any] = {"authorization_servers": (), "scopes": (), "methods": ()}
    return ProtectedResource.describe(identifier, **{**empty, **changes})


URLS = {
    "https://api.test": f"https://api.test{WELL_KNOWN}",
    "https://api.test/": f"https://api.test{WELL_KNOWN}",
    "https://api.test:8443/v1": f"https://api.test:8443{WELL_KNOWN}/v1",
    "https://api.test/a/b/": f"https://api.test{WELL_KNOWN}/a/b/",
    "https://api.test?k=1": f"https://api.test{WELL_KNOWN}?k=1",
    "https://api.test/v1?k=1": f"https://api.test{WELL_KNOWN}/v1?k=1",
}


@pytest.mark.parametrize(("identifier", "url"), URLS.items(), ids=str)
def test_url(identifier: str, url: str) -> None:
    """The well-known part stands between host and path (RFC 9728 section 3.1)."""
    assert describe(identifier).url == url


def test_document() -> None:
    """The document has what is configured, and no empty member (section 2)."""
    assert json.loads(describe("https://api.test").document) == {"resource": "https://api.test"}
    told = describe(
        "https://api.test", authorization_servers=("https://a.test",), scopes=("x", "y"), methods=("header",)
    )
    assert json.loads(told.document) == {
        "resource": "https://api.test",
        "authorization_servers": ["https://a.test"],
        "scopes_supported": ["x", "y"],
        "bearer_methods_supported": ["header"],
    }


@pytest.mark.parametrize("path", ["/a%2Fb", "/a;b", "/a//b", "/a/../b", "/a b"])
def test_identifier_without_one_path(path: str) -> None:
    """An identifier that servers read in more than one way cannot be answered for."""
    with pytest.raises(ValueError, match=r"path|way"):
        describe(f"https://api.test{path}")


ANSWERING = replace(DEFAULT_SNAPSHOT, responses=Responses(resource=describe("https://api.test/v1")))
ASKED = (
    WELL_KNOWN,
    f"{WELL_KNOWN}/",
    f"{WELL_KNOWN}/v1",
    f"{WELL_KNOWN}?x=1",
    "/%2Ewell-known/oauth-protected-resource",
)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_is_answered_to_everybody(method: str, path: str) -> None:
    """The document needs no token, looks at none, and is reported as public, without a rule."""
    for token in (None, "bad", mint()):
        decision = decide(token, snapshot=ANSWERING, method=method, path=path)
        assert isinstance(decision, Allow)
        assert (decision.reason, decision.trail.rule, decision.would_deny) == (Reason.PUBLIC, None, False)
        assert decision.document == describe("https://api.test/v1").document


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", WELL_KNOWN),
        ("OPTIONS", WELL_KNOWN),
        ("GET", f"{WELL_KNOWN}/v2"),
        ("GET", f"{WELL_KNOWN}/v1/x"),
        ("GET", "/.well-known"),
        ("GET", "/.well-known/openid-configuration"),
    ],
)
def test_the_rules_decide_about_all_else(method: str, path: str) -> None:
    """Another method or path is left to the rules, here to none."""
    decision = decide(mint(), snapshot=ANSWERING, method=method, path=path)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.POLICY_DENIED


def test_no_rule_hides_it() -> None:
    """It is answered before the rules, also before one for no one; without it that rule decides."""
    policy = Policy([rule("nobody", "/**", allow=AccessMode.DENY)])
    assert decide(snapshot=replace(ANSWERING, policy=policy), path=WELL_KNOWN).reason is Reason.PUBLIC
    assert decide(snapshot=replace(DEFAULT_SNAPSHOT, policy=policy), path=WELL_KNOWN).reason is Reason.POLICY_DENIED


def test_a_malformed_request_is_not_answered() -> None:
    """The first step comes first."""
    assert decide(snapshot=ANSWERING, path=WELL_KNOWN, host="a@b").reason is Reason.REQUEST_MALFORMED
    assert decide(snapshot=ANSWERING, path=f"/{WELL_KNOWN}").reason is Reason.PATH_AMBIGUOUS
