"""Proves that the JSON Schema agrees with the model, and stays within what both Helm 3 and Helm 4 know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import jsonschema
import pytest

from authz.config.clients import Clients, Throttle
from authz.config.document import parse_document
from authz.config.dpop import Dpop
from authz.config.exchange import Exchange
from authz.config.introspection import Client, Introspection
from authz.config.issuer import Fetch, InlineKeys, InsecureIssuer, Issuer
from authz.config.load import parse
from authz.config.model import (
    Admin,
    Config,
    Console,
    HeaderValue,
    Identity,
    Insecure,
    Paths,
    Resource,
    Responses,
    Server,
    Tls,
    Token,
    TokenSource,
)
from authz.config.pdp import InsecurePdp, Pdp, PdpAction, PdpQuestion, PdpResource, PdpSubject
from authz.config.problems import ConfigError
from authz.config.revocation import (
    InsecureList,
    InsecureTransmitter,
    Logout,
    Receivers,
    Revocation,
    RevocationList,
    SharedRevocations,
    Transmitter,
)
from authz.config.risk import InsecureRisk, OnError, Risk
from authz.config.rules import Match, Require, RequireRisk, Rule, StepUp
from authz.config.schema import json_schema
from authz.config.section import Section
from authz.config.shared_state import InsecureSharedState, SharedState
from authz.config.signing import Publication, Rotation, Signing, SigningKey
from authz.config.status_list import StatusList
from authz.config.telemetry import Logs, Metrics, Telemetry, Traces
from authz.config.upstream_token import TokenClaim, UpstreamToken
from tests.unit.config.sample import SAMPLE

SCHEMA: Final = json_schema()
SECTIONS: Final = (
    InsecureRisk,
    OnError,
    Risk,
    Publication,
    Rotation,
    SharedRevocations,
    TokenClaim,
    UpstreamToken,
    *(
        Admin,
        Console,
        Client,
        Clients,
        Dpop,
        Exchange,
        Fetch,
        HeaderValue,
        Identity,
        InlineKeys,
        Insecure,
        InsecureIssuer,
        InsecureSharedState,
        Introspection,
        Issuer,
        Logs,
        Match,
        Metrics,
        Paths,
        Require,
        RequireRisk,
        Resource,
    ),
    *(InsecurePdp, Pdp, PdpAction, PdpQuestion, PdpResource, PdpSubject),
    *(
        Responses,
        Rule,
        Server,
        SharedState,
        Signing,
        SigningKey,
        StatusList,
        StepUp,
        InsecureRisk,
        OnError,
        Risk,
        Telemetry,
        Throttle,
        Tls,
        Token,
        TokenSource,
        Traces,
    ),
    *(InsecureList, InsecureTransmitter, Logout, Receivers, Revocation, RevocationList, Transmitter),
)
# Newer drafts, or beyond what charts can use.
FOREIGN: Final = {
    "$defs",
    "prefixItems",
    "unevaluatedProperties",
    "dependentRequired",
    "anyOf",
    "if",
    "$id",
    "nullable",
}


def sample() -> Any:  # noqa: ANN401 - plain data
    """Return the sample as plain data."""
    return parse_document(SAMPLE.read_text(), file="config.yaml").data


def accepts(data: object) -> bool:
    """Whether the schema has nothing against *data*."""
    return jsonschema.Draft7Validator(SCHEMA).is_valid(data)


def objects(node: object) -> Iterator[dict[str, Any]]:
    """Yield every mapping in the schema."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from objects(child)


def test_schema_is_draft_07() -> None:
    """The schema is a valid one of its draft, and uses no word of another."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert not {key for node in objects(SCHEMA) for key in node} & FOREIGN


def test_references_lead_somewhere() -> None:
    """Every reference is to a definition of this schema, and every definition is used."""
    used = {node["$ref"] for node in objects(SCHEMA) if isinstance(node.get("$ref"), str)}
    assert used == {f"#/definitions/{name}" for name in SCHEMA["definitions"]}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_is_in_the_schema(section: type[Section]) -> None:
    """Each section has all of its keys in the schema, each with a description, and no others."""
    definition = SCHEMA["definitions"][section.__name__]
    assert definition["properties"].keys() == section.model_fields.keys()
    assert definition.get("additionalProperties", True) is (section.model_config.get("extra") == "ignore")
    for name, field in section.model_fields.items():
        assert field.description, name
    assert definition.get("required", []) == [
        name for name, field in section.model_fields.items() if field.is_required()
    ]


def test_no_section_is_forgotten() -> None:
    """The sections above are all there are."""
    mappings = {name for name, definition in SCHEMA["definitions"].items() if "properties" in definition}
    assert mappings == {section.__name__ for section in SECTIONS}
    assert SCHEMA["properties"].keys() == Config.model_fields.keys()
    assert SCHEMA["required"] == ["version", "issuers", "rules"]
    assert SCHEMA["additionalProperties"] is False


def test_sample_is_valid() -> None:
    """The sample configuration is valid by the schema."""
    jsonschema.validate(sample(), SCHEMA, cls=jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("servr",), {}),
        (("version",), 2),
        (("server", "listn"), "unix:/run/authz.sock"),
        (("server", "workers"), "4"),
        (("server", "tls"), None),
        (("server", "tls"), {"cert_file": "/tls/tls.crt"}),
        (("server", "drain"), "10"),
        (("server", "drain"), "1d"),
        (("issuers",), {}),
        (("issuers", "corporate", "audience"), ["orders-api"]),
        (("issuers", "corporate", "fetch", "max_bytes"), 262144),
        (("rules",), []),
        (("rules", 0, "methods"), ["GET"]),
        (("rules", 0, "allow"), "anybody"),
        (("rules", 1, "require", "scopes"), "orders:write"),
        (("rules", 1, "require", "claims", "groups"), [None]),
        (("identity", "headers", "x-auth-org"), {"clam": "org"}),
        (("identity", "headers", "x-auth-org"), 5),
        (("telemetry", "traces", "sample_ratio"), 1.5),
    ],
)
def test_what_the_schema_refuses(path: tuple[str | int, ...], value: object) -> None:
    """A typo, a wrong type and a value without its unit fail in an editor as they fail at load."""
    data = sample()
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not accepts(data)
    with pytest.raises(ConfigError):
        parse(json.dumps(data), file="config.yaml")


def test_defaults_stand_as_in_the_file() -> None:
    """Defaults in the schema are valid by the schema itself: durations and sizes carry their unit."""
    fetch = SCHEMA["definitions"]["Fetch"]["properties"]
    assert fetch["timeout"]["default"] == "5s"
    assert fetch["max_bytes"]["default"] == "256KiB"
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    for node in objects(SCHEMA):
        if "default" in node and "properties" not in node:
            own = node | {"definitions": SCHEMA["definitions"]}
            jsonschema.Draft7Validator(own).validate(node["default"])
