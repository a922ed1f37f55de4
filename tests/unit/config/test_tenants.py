"""Proves issuer templates: one section, one source of keys and one name for several values of `iss`, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from authz.config.build import build_snapshot
from authz.config.diagnostics.ambiguous_subjects import find_ambiguous_subjects
from authz.config.load import parse
from authz.config.model import Config
from authz.core.authorize import authorize
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.feeds.discovery import discovery_url, read_jwks_uri
from authz.feeds.key_report import describe_keys
from authz.feeds.key_usage import KeyUsage
from authz.testing import Gateway
from authz.tooling.compare.comparison import compare
from authz.tooling.compare.effects import Effect
from authz.tooling.explain.explanation import Question, explain_question
from tests.fixtures import A_RSA, T, ask, jwks, key_set, mint

ENTRA: Final = "https://login.microsoftonline.com"
ONE: Final = "11111111-1111-4111-8111-111111111111"
TWO: Final = "22222222-2222-4222-8222-222222222222"
STRANGER: Final = "33333333-3333-4333-8333-333333333333"
TEXT: Final = f"""
version: 1
issuers:
  entra:
    issuer: "{ENTRA}/{{tenantid}}/v2.0"
    tenants: [{ONE}, {TWO}]
    audiences: [api]
    algorithms: [RS256]
rules: [{{name: all, match: {{paths: ["/**"]}}}}]
"""


def config(text: str = TEXT) -> Config:
    """Load a configuration with a template."""
    return parse(text, file="authz.yaml")


def snapshot(text: str = TEXT) -> Snapshot:
    """Build it, and give all issuers the keys of one feed."""
    built = build_snapshot(config(text))
    keys = key_set(A_RSA)
    return replace(built, issuers={iss: replace(issuer, keys=keys) for iss, issuer in built.issuers.items()})


def test_each_tenant_is_an_issuer_of_one_name() -> None:
    """Tokens of the tenants that are listed are good, under the name of the section."""
    for tenant in (ONE, TWO):
        decision = authorize(ask(mint(iss=f"{ENTRA}/{tenant}/v2.0")), snapshot(), T)

        assert (decision.reason, decision.trail.issuer) == (Reason.AUTHENTICATED, "entra")


@pytest.mark.parametrize(
    "iss",
    [
        f"{ENTRA}/{STRANGER}/v2.0",
        f"{ENTRA}/{{tenantid}}/v2.0",
        f"{ENTRA}/common/v2.0",
        f"{ENTRA}/{ONE}/v2.0/",
        f"{ENTRA}/{ONE}",
        f"{ENTRA}/{ONE}/{TWO}/v2.0",
        f"{ENTRA}//v2.0",
        f"{ENTRA}/{ONE.replace('1', '1 ')}/v2.0",
        f"https://login.microsoftonline.com.evil.test/{ONE}/v2.0",
    ],
)
def test_all_others_are_strangers(iss: str) -> None:
    """The same key signs for every tenant of the world: nothing but the list keeps the others out."""
    assert authorize(ask(mint(iss=iss)), snapshot(), T).reason is Reason.ISSUER_UNKNOWN


def test_the_token_of_one_tenant_cannot_name_another_as_its_issuer() -> None:
    """Each `iss` has claim rules of its own: what was read before the signature is compared after it."""
    rules = {iss: issuer.rules.issuer for iss, issuer in snapshot().issuers.items()}

    assert rules == {f"{ENTRA}/{tenant}/v2.0": f"{ENTRA}/{tenant}/v2.0" for tenant in (ONE, TWO)}


def test_discovery_is_that_of_the_common_endpoint() -> None:
    """Its document names the template as its issuer, and that is accepted for this template alone."""
    section = config().issuers["entra"]
    document = f'{{"issuer": "{ENTRA}/{{tenantid}}/v2.0", "jwks_uri": "{ENTRA}/common/keys"}}'.encode()

    assert discovery_url(section.discovery_base) == f"{ENTRA}/common/v2.0/.well-known/openid-configuration"
    assert read_jwks_uri(document, issuer=section.issuer) == f"{ENTRA}/common/keys"
    for other in (f"{ENTRA}/{ONE}/v2.0", f"{ENTRA}/common/v2.0", f"{ENTRA}/{{tenantid}}/v1.0"):
        with pytest.raises(ValueError, match="is of issuer"):
            read_jwks_uri(document, issuer=other)


def test_metadata_lists_the_tenants() -> None:
    """A client that reads the resource's metadata finds servers that exist, and no placeholder (RFC 9728)."""
    resource = build_snapshot(config(f'{TEXT}resource: {{identifier: "https://api.test/"}}\n')).responses.resource

    assert resource is not None
    assert "tenantid" not in resource.document
    assert all(f"{ENTRA}/{tenant}/v2.0" in resource.document for tenant in (ONE, TWO))


def test_a_subject_of_several_tenants_is_ambiguous() -> None:
    """One section with several values of `iss` is warned about like several sections."""
    text = f"{TEXT}identity: {{headers: {{x-user: sub}}}}\n".replace(
        "rules: [{name: all,", "rules: [{name: all, require: {issuers: [entra], claims: {sub: [alice]}},"
    )
    one = text.replace(f"{ONE}, {TWO}", ONE)

    def found(text: str) -> list[tuple[object, ...]]:
        return [problem.path for problem in find_ambiguous_subjects(config(text)) if "sub is unique" in problem.message]

    assert found(text) == [("identity", "headers", "x-user"), ("rules", 0, "require", "claims", "sub")]
    assert found(one) == []


def test_a_tenant_more_is_a_change_that_opens() -> None:
    """The difference names the tenant; any other change is listed once, and not once a tenant."""
    more = TEXT.replace(f"{ONE}, {TWO}", f"{ONE}, {TWO}, {STRANGER}").replace("[api]", "[api, other]")
    changes = [(change.effect, str(change)) for change in compare(config(), config(more))]
    opens = [text for effect, text in changes if effect is Effect.WIDENS]

    assert len(opens) == 2
    assert any(f"{ENTRA}/{STRANGER}/v2.0" in text for text in opens)
    assert any("issuers.entra.audiences" in text for text in opens)


def test_explain_takes_the_keys_for_every_tenant() -> None:
    """`authz explain --jwks` verifies a token of any tenant of the template by the given keys."""
    keys = jwks(A_RSA).encode()
    for tenant in (ONE, TWO):
        token = mint(iss=f"{ENTRA}/{tenant}/v2.0")
        question = Question(method="GET", host="api.test", path="/", at=T, token=token, jwks=keys)

        assert explain_question(question, config()).allowed


def test_keys_of_a_template_are_shown_once() -> None:
    """An operator sees one entry for its name, with every `iss` that it accepts."""
    shown = describe_keys(snapshot(), {}, KeyUsage(lambda: T))["issuers"]

    assert isinstance(shown, list)
    (entry,) = shown
    assert (entry["issuer"], entry["iss"]) == ("entra", f"{ENTRA}/{ONE}/v2.0, {ENTRA}/{TWO}/v2.0")
    assert [key["kid"] for key in entry["keys"]] == [A_RSA.kid]


def test_rules_of_ones_own_can_be_tried() -> None:
    """The helper for tests mints tokens of the first tenant."""
    gateway = Gateway.from_text(TEXT)

    assert gateway.decide("GET", "https://api.test/", token=gateway.mint("entra")).allowed
    assert gateway.decide("GET", "https://api.test/", token=gateway.mint("entra", iss=f"{ENTRA}/{TWO}/v2.0")).allowed
    stranger = gateway.mint("entra", iss=f"{ENTRA}/{STRANGER}/v2.0")
    assert gateway.decide("GET", "https://api.test/", token=stranger).reason is Reason.ISSUER_UNKNOWN
