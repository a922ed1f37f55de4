"""Proves that whatever loosens a check is said aloud."""

from __future__ import annotations

from typing import Final

import pytest

from authz.config.build import build_rules
from authz.config.diagnostics.warnings import MAX_HEADERS_WITHOUT_WARNING, count_insecure, warnings
from authz.config.issuer import InsecureIssuer
from authz.config.load import load, read
from authz.config.model import Insecure
from tests.unit.config.sample import SAMPLE, configure

SHARED = "shared_state: {url: rediss://valkey.example.com}\n"
VALUES = {"query_token": "access_token"}
KEY = "{kty: OKP, crv: Ed25519, kid: ours, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}"


def test_sample_has_no_warnings() -> None:
    """The sample loosens nothing."""
    assert warnings(load(SAMPLE)) == []
    assert count_insecure(load(SAMPLE)) == 0


@pytest.mark.parametrize("option", Insecure.model_fields)
def test_insecure_options(option: str) -> None:
    """Every insecure option warns where it is in use, with the risk that is taken."""
    config = configure(more=f"insecure: {{{option}: {VALUES.get(option, 'true')}}}\n")
    [warning] = warnings(config)
    assert warning.path == ("insecure", option)
    assert warning.message
    assert count_insecure(config) == 1


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


def test_proofs_of_processes_that_share_none() -> None:
    """Each worker, each replica and each start remembers its own proofs; a shared state, or no proofs, is no matter."""
    several = "server: {workers: 4}\n"
    [warning] = warnings(configure(issuer="dpop: required", more=several + "dpop: {nonce_secret_file: /secret}\n"))
    assert warning.path == ("server", "workers")
    assert "4 times, and so often again at each replica and after a restart" in warning.message
    [warning] = warnings(configure(issuer="dpop: allowed"))
    assert warning.path == ("issuers", "corporate", "dpop")
    assert "once again at each replica and after a restart" in warning.message
    shared = f"{SHARED}dpop: {{nonce_secret_file: /secret}}\n"
    assert warnings(configure(more=several)) == warnings(configure(issuer="dpop: allowed", more=shared)) == []


def test_nonces_of_replicas_that_share_proofs() -> None:
    """With one memory of proofs, but no secret of all, replicas refuse each other's nonces; any such secret will do."""
    [warning] = warnings(configure(issuer="dpop: allowed", more=SHARED))
    assert str(warning) == (
        "dpop.nonce_secret_file: is not set: replicas share proofs (DPoP), and each refuses the nonces of the others "
        "(set it, or revocation.shared.secret_file, to the same for all replicas)"
    )
    for file in ("dpop: {nonce_secret_file: /secret}\n", "revocation: {shared: {secret_file: /secret}}\n"):
        assert warnings(configure(issuer="dpop: allowed", more=SHARED + file)) == []
    assert warnings(configure(more=SHARED)) == []


def test_errors_in_place_of_denials() -> None:
    """What Envoy lets pass by itself has the identity headers that the client sent."""
    [warning] = warnings(configure(more="responses: {unavailable: error}\n"))
    assert warning.path == ("responses", "unavailable")
    assert "identity headers" in warning.message


def test_keys_that_are_not_used() -> None:
    """A key in the file that cannot be used is named, with the reason."""
    [warning] = warnings(configure(issuer=f"jwks: {{keys: [{KEY}, {{kty: new, kid: key-1}}]}}"))
    assert str(warning).startswith("issuers.corporate.jwks: the key 'key-1' is not used: ")


def test_keys_that_no_token_can_mean() -> None:
    """A good key in the file for which the issuer has no algorithm is named, with the reason."""
    [warning] = warnings(configure(issuer=f"jwks: {{keys: [{KEY}]}}\n    algorithms: [RS256]"))
    assert str(warning) == (
        "issuers.corporate.jwks: the key 'ours' is not used: "
        "none of the issuer's algorithms is for a key of type OKP Ed25519"
    )


def test_no_keys() -> None:
    """An empty list in the file is a warning: it refuses everyone."""
    [warning] = warnings(configure(issuer="jwks: {keys: []}"))
    assert str(warning) == "issuers.corporate.jwks: contains no key: every token of this issuer is rejected"


def test_names_that_block_no_key() -> None:
    """A blocked name that no key in the file has is a warning; of fetched keys nothing is known yet."""
    [warning] = warnings(
        configure(issuer=f"jwks: {{keys: [{KEY}, {KEY.replace('ours', 'x')}]}}\n    blocked_keys: [x, y]")
    )[2:]  # the key, and the other that holds the same numbers, are blocked
    assert warning.path == ("issuers", "corporate", "blocked_keys", 1)
    assert warning.message == "'y' is not the kid or thumbprint of a key in jwks"
    assert warnings(configure(issuer="blocked_keys: [y]")) == []


@pytest.mark.parametrize(("more", "count"), [(0, 0), (1, 1)])
def test_headers_that_leave_a_client_too_few(more: int, count: int) -> None:
    """Envoy answers 500 where a client's headers and ours are more than it holds: many of ours are a warning."""
    headers = ", ".join(f"x-{number}: sub" for number in range(MAX_HEADERS_WITHOUT_WARNING + more))
    issuer = "claims: {}"
    found = warnings(configure(issuer=issuer, more=f"identity: {{headers: {{{headers}}}}}\n"))
    told = [warning for warning in found if warning.path == ("identity", "headers")]
    assert [warning.message for warning in told] == [
        "leaves a client 51 headers, with Envoy's default limit of 100"
    ] * count


@pytest.mark.parametrize(("source", "count"), [("", 1), ("jwks_file: /keys.json", 0), (f"jwks: {{keys: [{KEY}]}}", 0)])
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
        : text.index("  expose_reason:")
    ].count("\n")


def test_what_is_parsed_is_parsed_once() -> None:
    """Checks, warnings and the snapshot have the very same templates, host patterns and conditions."""
    pytest.importorskip("cel_expr_python")
    config = configure(rule="require: {when: claims.n == '1'}")
    match, require = config.rules[-1].match, config.rules[-1].require
    assert match is not None
    assert require is not None
    warnings(config)
    first, second = (build_rules(config)[-1] for _ in range(2))
    for built in (first, second):
        assert built.match.paths is match.templates
        assert built.match.hosts is match.host_patterns
        assert built.requirements.condition is require.condition


PDP: Final = "https://pdp.test/access/v1/evaluation"


def of_pdp(
    pdp: str = f"url: '{PDP}'", asked: str = "p", *, paths: str = '"/a/{id}/{x}"', accept: str = ""
) -> list[str]:
    """The warnings about a PDP, and a rule that asks it."""
    rule = f"  - name: ask\n    match: {{paths: [{paths}]}}\n{accept}    require: {{pdp: {asked}}}\n"
    return [str(warning) for warning in warnings(configure(more=f"{rule}pdps: {{p: {{{pdp}}}}}\n"))]


def test_pdps_that_are_hardly_meant() -> None:
    """One that no rule asks, an unusual URL, and what is insecure."""
    assert of_pdp() == []
    assert of_pdp("kind: opa, url: 'https://opa.test/v1/data/app/allow'") == []
    (odd,) = of_pdp("kind: opa, url: 'https://opa.test/v0/data/app/allow'")
    assert "pdps.p.url: is not below /v1/data/" in odd
    (odd,) = of_pdp("url: 'https://pdp.test/stores/1'")
    assert "does not end with /evaluation" in odd
    (idle,) = map(str, warnings(configure(more=f"pdps: {{p: {{url: '{PDP}'}}}}\n")))
    assert idle == "pdps.p: no rule asks it (require: {pdp: NAME} in a rule)"
    found = of_pdp(f"url: '{PDP}', insecure: {{http: true, allow_on_error: true}}")
    assert [line.partition(":")[0] for line in found] == ["pdps.p.insecure.http", "pdps.p.insecure.allow_on_error"]


@pytest.mark.parametrize(
    ("encoding", "text", "accept", "warned"),
    [
        ("none", "${params.id}/${params.x}", "", False),
        ("none", "${params.id}/${params.x}", "    accept: [encoded_slash]\n", True),
        ("percent", "${params.id}/${params.x}", "    accept: [encoded_slash]\n", False),
        ("none", "${params.id}-${params.x}", "", True),
        ("percent", "${params.id}-${params.x}", "", True),
        ("percent", "${params.id}:${params.x}", "", False),
        ("base64url", "${params.id}.${params.x}", "", False),
        ("base64url", "${params.id}_${params.x}", "", True),
    ],
)
def test_ids_that_two_requests_can_share(encoding: str, text: str, accept: str, warned: bool) -> None:  # noqa: FBT001 - a table
    """A client could choose the parts so that the PDP decides about another resource."""
    found = of_pdp(f"url: '{PDP}', id_encoding: {encoding}", f"{{name: p, resource: {{id: '{text}'}}}}", accept=accept)
    assert len(found) == warned, found
    assert all("resource.id: two different requests can have the same id" in line for line in found)
