"""Proves how the metadata document of RFC 9728 goes through Envoy, and how it is built from the configuration."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from authz.config.build import build_resource
from authz.core.resource_metadata import WELL_KNOWN
from authz.core.snapshot import Responses, Snapshot
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.codec import encode_decision
from tests.fixtures import DEFAULT_SNAPSHOT, ask, decide
from tests.unit.config.sample import configure, problems, small

RESOURCE = "resource: {identifier: https://api.test/v1, scopes: [r, w]}\n"


def answering(more: str = RESOURCE) -> Snapshot:
    """Return the world with the metadata of a configuration in it."""
    return replace(DEFAULT_SNAPSHOT, responses=Responses(resource=build_resource(configure(more=more))))


def encode(snapshot: Snapshot, path: str) -> wire.CheckResponse:
    """Judge a request for *path*, and read the bytes for Envoy back."""
    request = ask(path=path)
    data = encode_decision(decide(path=path, snapshot=snapshot), request, snapshot.responses, "5ca1ab1e")
    return wire.CheckResponse.FromString(data)


def test_the_document_is_a_denial_with_status_200() -> None:
    """With status OK the request would go upstream; Envoy takes the status for the client from denied_response."""
    message = encode(answering(), WELL_KNOWN)
    assert message.status.code != 0
    assert message.WhichOneof("http_response") == "denied_response"
    assert message.denied_response.status.code == 200
    headers = {option.header.key: option.header.value for option in message.denied_response.headers}
    assert headers == {"content-type": "application/json", "cache-control": "max-age=300"}
    assert json.loads(message.denied_response.body) == {
        "resource": "https://api.test/v1",
        "authorization_servers": ["https://login.example.com/"],
        "scopes_supported": ["r", "w"],
        "bearer_methods_supported": ["header"],
    }


def test_it_is_told_as_public() -> None:
    """For anyone who counts, it is an allow for everybody, by no rule."""
    metadata = encode(answering(), WELL_KNOWN).dynamic_metadata
    assert dict(metadata.items()) == {"decision": "allow", "decision_id": "5ca1ab1e", "reason": "public"}


def test_challenges_name_it() -> None:
    """Each challenge says where the document is; without one, none does."""
    url = f'resource_metadata="https://api.test{WELL_KNOWN}/v1"'
    for snapshot, named in ((answering(), True), (DEFAULT_SNAPSHOT, False)):
        headers = encode(snapshot, "/items/1").denied_response.headers
        (challenge,) = [option.header.value for option in headers if option.header.key == "www-authenticate"]
        assert (url in challenge) is named


def test_what_the_configuration_says() -> None:
    """Ways to send a token come from its sources; nothing is built where nothing is configured."""
    assert build_resource(configure()) is None
    cookie = "token: {sources: [{cookie: t}]}\ninsecure: {query_token: q}\n"
    resource = build_resource(configure(more=RESOURCE + cookie))
    assert resource is not None
    assert json.loads(resource.document)["bearer_methods_supported"] == ["query"]


@pytest.mark.parametrize(
    "identifier", ["http://api.test", "https://api.test/a%2Fb", "https://api.test/a/../b", "api.test"]
)
def test_an_identifier_that_cannot_be(identifier: str) -> None:
    """What is no https URL, or has a path that is read in more than one way, is a problem of the configuration."""
    (problem,) = problems(small(more=f"resource: {{identifier: '{identifier}'}}\n"))
    assert "resource.identifier: " in problem
