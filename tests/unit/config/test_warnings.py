"""Proves that whatever loosens a check is said aloud."""

from __future__ import annotations

import pytest

from authz.config.issuer import InsecureIssuer
from authz.config.load import load, read
from authz.config.model import Insecure
from authz.config.warnings import warnings
from tests.unit.config.sample import SAMPLE, configure

VALUES = {"query_token": "access_token"}


def test_sample_has_no_warnings() -> None:
    """The sample loosens nothing."""
    assert warnings(load(SAMPLE)) == []


@pytest.mark.parametrize("option", Insecure.model_fields)
def test_insecure_options(option: str) -> None:
    """Every insecure option warns where it is in use, with the risk that is taken."""
    [warning] = warnings(configure(more=f"insecure: {{{option}: {VALUES.get(option, 'true')}}}\n"))
    assert warning.path == ("insecure", option)
    assert warning.message


@pytest.mark.parametrize("option", InsecureIssuer.model_fields)
def test_insecure_options_of_issuers(option: str) -> None:
    """Every insecure option of an issuer warns where it is in use, with the risk that is taken."""
    [warning] = warnings(configure(issuer=f"insecure: {{{option}: true}}"))
    assert warning.path == ("issuers", "corporate", "insecure", option)
    assert warning.message


def test_exposed_reasons() -> None:
    """Telling clients why is a help to some that it is not meant for."""
    [warning] = warnings(configure(more="responses: {expose_reason: true}\n"))
    assert warning.path == ("responses", "expose_reason")


def test_rules_in_shadow() -> None:
    """A rule that only reports opens what it stands before."""
    [warning] = warnings(configure(rule="shadow: true"))
    assert warning.path == ("rules", 0, "shadow")


def test_errors_in_place_of_denials() -> None:
    """What Envoy lets pass by itself has the identity headers that the client sent."""
    [warning] = warnings(configure(more="responses: {unavailable: error}\n"))
    assert warning.path == ("responses", "unavailable")
    assert "identity headers" in warning.message


def test_keys_that_are_not_used() -> None:
    """A key in the file that cannot be used is named, with the reason."""
    [warning] = warnings(configure(issuer="jwks: {keys: [{kty: new, kid: key-1}]}"))
    assert str(warning).startswith("issuers.corporate.jwks: the key 'key-1' is not used: ")


@pytest.mark.parametrize(("source", "count"), [("", 1), ("jwks_file: /keys.json", 0), ("jwks: {keys: []}", 0)])
def test_keys_that_go_stale_before_they_are_refreshed(source: str, count: int) -> None:
    """Fetched keys that are dropped before their refresh deny everybody for a while."""
    found = warnings(configure(issuer=f"fetch: {{max_stale: 5m}}\n    {source}"))
    assert [warning.path[-1] for warning in found] == ["max_stale"] * count


def test_keys_that_go_stale_as_they_are_refreshed() -> None:
    """Keys may live exactly as long as the time between two refreshes."""
    assert warnings(configure(issuer="fetch: {interval: 5m, max_stale: 5m}")) == []


def test_warnings_can_be_located() -> None:
    """A warning has a path, and the document knows its line."""
    text = SAMPLE.read_text()
    assert read(SAMPLE).locate(warnings(configure(more="responses: {expose_reason: true}\n"))[0]).line == 1 + text[
        : text.index("  expose_reason")
    ].count("\n")
