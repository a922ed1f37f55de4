"""Each recipe is accepted without a warning, fetches what its provider serves, and decides on tokens of its shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Final

import pytest
from click.testing import CliRunner

from authz.cli import main
from authz.config.build import build_snapshot
from authz.config.load import load
from authz.config.model import Config
from authz.core.reasons import Reason, Rejected
from authz.core.token import parse_token
from authz.telemetry.keys import Refresh
from authz.testing import Gateway
from tests.recipes import (
    auth0,
    cognito,
    dex,
    entra,
    entra_tenants,
    github_actions,
    google,
    hydra,
    hydra_opaque,
    keycloak,
    keycloak_introspection,
    kubernetes,
    oidc_provider,
    oidc_provider_opaque,
    okta,
    passkey,
    pingfederate,
    spiffe,
    spiffe_bundle,
)
from tests.recipes.recipe import FOLDER, Case, Recipe, Token
from tests.recipes.web import BEARER, Web, serve

MODULES: Final = (
    auth0,
    okta,
    keycloak,
    keycloak_introspection,
    entra,
    entra_tenants,
    google,
    cognito,
    pingfederate,
    hydra,
    hydra_opaque,
    dex,
    oidc_provider,
    oidc_provider_opaque,
    github_actions,
    kubernetes,
    spiffe,
    spiffe_bundle,
    passkey,
)
RECIPES: Final = {module.RECIPE.name: module.RECIPE for module in MODULES}
CASES: Final = [
    pytest.param(name, case, id=f"{name}: {case.proves}") for name, recipe in RECIPES.items() for case in recipe.cases
]


@pytest.fixture(scope="module")
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """What the recipe named by the parameter speaks to."""
    with serve(RECIPES[request.param], tmp_path_factory.mktemp("web")) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Gateway]:
    """Make the gateway of a recipe by its name, with the keys that its provider serves; once."""

    @cache
    def make(name: str) -> Gateway:
        with serve(RECIPES[name], tmp_path_factory.mktemp("web")) as hosts:
            return hosts.gateway(RECIPES[name])

    return make


@pytest.mark.parametrize(("name", "case"), CASES)
def test_decision(name: str, case: Case, gateway: Callable[[str], Gateway]) -> None:
    """A token as the provider shapes it is evaluated as its row says, and the upstream gets no more than that."""
    verdict = case.decide(gateway(name))

    assert (verdict.reason, verdict.headers) == (case.reason, case.headers), verdict.detail
    assert case.challenge in (verdict.challenge or "")


def test_every_recipe_is_tested() -> None:
    """The folder holds the recipes of the table, and nothing else but their page."""
    assert {file.name for file in FOLDER.iterdir()} == {recipe.file.name for recipe in RECIPES.values()} | {"README.md"}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_it_is_accepted(recipe: Recipe) -> None:
    """`authz check-config` has nothing to say against it, not even a warning, but that files of a pod are not here."""
    result = CliRunner().invoke(main, ["check-config", str(recipe.file)])

    said = [line for line in result.stderr.splitlines() if not any(f" {path}: " in line for path in recipe.absent)]
    assert (result.exit_code, said) == (0, [])


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_rule_is_tried_both_ways(recipe: Recipe, gateway: Callable[[str], Gateway]) -> None:
    """Each rule of a recipe lets a token of the table through, and refuses another."""
    tried = set()
    for case in recipe.cases:
        verdict = case.decide(gateway(recipe.name))
        tried.add((verdict.rule, verdict.allowed))

    rules = [rule.name for rule in load(recipe.file).rules]
    assert tried == {(rule, allowed) for rule in rules for allowed in (True, False)}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_unusable_keys_are_set_aside(recipe: Recipe, gateway: Callable[[str], Gateway]) -> None:
    """Of what the provider publishes, only the keys that no signature may be made with are not used."""
    aside = {
        issuer.name: [kid for kid, _ in issuer.keys.rejected]
        for issuer in gateway(recipe.name).snapshot.issuers.values()
        if issuer.keys is not None and issuer.keys.rejected
    }

    assert aside == recipe.rejected_keys


@pytest.mark.parametrize("web", ["google"], indirect=True)
def test_googles_keys_need_their_host_listed(web: Web) -> None:
    """The keys come from www.googleapis.com, and without allowed_hosts nothing is asked of it."""
    section = load(google.RECIPE.file).issuers["google"]

    refused, state = web.feed("google", section, allowed_hosts=())
    assert refused is None
    assert state.last_failure is not None
    assert state.last_failure.result is Refresh.UNTRUSTED
    assert web.hosts["www.googleapis.com"].seen == []

    keys, _ = web.feed("google", section)
    assert keys is not None
    assert web.hosts["www.googleapis.com"].count("/oauth2/v3/certs") == 1


@pytest.mark.parametrize("web", ["entra"], indirect=True)
@pytest.mark.parametrize("issuer", ["{tenantid}", "common"])
def test_entra_has_no_issuer_for_all_tenants(web: Web, issuer: str) -> None:
    """The document of `common` names an issuer with a gap in it: it is no configured issuer's document."""
    login = "https://login.microsoftonline.com"
    section = (
        load(entra.RECIPE.file)
        .issuers["contoso"]
        .model_copy(
            update={
                "issuer": f"{login}/{issuer}/v2.0".replace("{tenantid}", "11111111-1111-4111-8111-111111111111"),
                "discovery_url": f"{login}/common/v2.0/.well-known/openid-configuration",
            }
        )
    )

    keys, state = web.feed("contoso", section)

    assert keys is None
    assert state.last_failure is not None
    assert state.last_failure.result is Refresh.DISCOVERY_REJECTED


@pytest.mark.parametrize("web", ["entra-tenants"], indirect=True)
def test_entra_tenants_have_one_source_of_keys(web: Web) -> None:
    """The document of `common` speaks for the template alone, and its keys are fetched once for all tenants."""
    section = load(entra_tenants.RECIPE.file).issuers["entra"]

    keys, _ = web.feed("entra", section)
    assert keys is not None
    assert web.hosts["login.microsoftonline.com"].count("/common/discovery/v2.0/keys") == 1

    for issuer, tenants in (
        (section.accepted_issuers[0], ()),
        ("https://{tenantid}.example.com/v2.0", section.tenants),
    ):
        url = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration"
        other = section.model_copy(update={"issuer": issuer, "tenants": tenants, "discovery_url": url})
        refused, state = web.feed("entra", other)
        assert refused is None
        assert state.last_failure is not None
        assert state.last_failure.result is Refresh.DISCOVERY_REJECTED


@pytest.mark.parametrize("web", ["spiffe"], indirect=True)
def test_a_tainted_authority_is_out_when_its_id_is_blocked(web: Web) -> None:
    """The provider goes on to publish it without a mark: the id in blocked_keys is what keeps its SVIDs out."""
    section = load(spiffe.RECIPE.file).issuers["spire"]
    svid = next(case.token for case in spiffe.RECIPE.cases if case.reason is Reason.AUTHENTICATED)
    assert isinstance(svid, Token)
    tainted = svid.kid

    keys, _ = web.feed("spire", section.model_copy(update={"blocked_keys": (tainted,)}))

    assert keys is not None
    assert tainted not in [key.kid for key in keys.keys]
    with pytest.raises(Rejected) as refused:
        keys.verify(parse_token(str(svid)), section.algorithms)
    assert refused.value.reason is Reason.KEY_UNUSABLE


@pytest.mark.parametrize("web", ["kubernetes"], indirect=True)
def test_the_cluster_is_asked_with_a_token_of_ours(web: Web) -> None:
    """The API server gets the sidecar's own token, and its keys are taken in the one media type that it serves."""
    keys, _ = web.feed("cluster", load(kubernetes.RECIPE.file).issuers["cluster"])

    (asked,) = web.hosts[kubernetes.HOST].seen
    headers = {name.lower(): value for name, value in asked.headers}
    assert keys is not None
    assert headers["authorization"] == f"Bearer {BEARER}"
    assert "application/jwk-set+json" in headers["accept"]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_page_has_a_section(recipe: Recipe) -> None:
    """Each recipe has a section that links to the file, and to its provider's own pages."""
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    sections = [text for text in re.split(r"^## ", page, flags=re.MULTILINE) if f"]({recipe.file.name})" in text]

    assert len(sections) == 1
    assert re.search(r"\]\(https://", sections[0])


def weaken(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield *config* without one of its requirements, each in turn, and the name of what is missing."""
    for place, rule in enumerate(config.rules):
        assert rule.require is not None
        for field in rule.require.model_fields_set:
            asked = getattr(rule.require, field)
            for entry in asked if isinstance(asked, Mapping) else [None]:
                rest = {name: values for name, values in asked.items() if name != entry} if entry else None
                require = rule.require.model_copy(update={field: rest})
                rules = (
                    *config.rules[:place],
                    rule.model_copy(update={"require": require}),
                    *config.rules[place + 1 :],
                )
                yield f"{rule.name}: {entry or field}", config.model_copy(update={"rules": rules})


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_requirement_keeps_somebody_out(recipe: Recipe, gateway: Callable[[str], Gateway]) -> None:
    """Without any one of a recipe's requirements, a token that is refused for it would be let in."""
    whole = gateway(recipe.name)
    refused = [case for case in recipe.cases if case.reason is not Reason.AUTHENTICATED]
    idle = []
    for missing, config in weaken(whole.config):
        policy = build_snapshot(config, verify_signature=whole.snapshot.verify_signature).policy
        weaker = replace(whole, snapshot=replace(whole.snapshot, policy=policy))
        if not any(case.decide(weaker).allowed for case in refused):
            idle.append(missing)

    assert idle == []
