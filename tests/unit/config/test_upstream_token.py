"""Proves the checks of the token for the upstream, and what is built from its section."""

from __future__ import annotations

from typing import Final

import pytest

from authz.config.build import build_snapshot
from authz.config.diagnostics.warnings import warnings
from authz.core.minting import CopiedValue, FixedValue, RequestField, ScopeClaim, TokenFormat
from authz.tooling.compare.settings import compare_settings
from authz.tooling.envoy_config.requirements import requirements_of
from tests.unit.config.sample import configure, problems, small

BASE: Final = "issuer: https://gateway.test, audience: [orders]"
TRANSACTION: Final = "format: transaction-token, audience: [domain.test], workload: gateway.test"


def token(text: str, *, more: str = "", rule: str = "") -> str:
    """Write the smallest configuration with a token for the upstream."""
    return small(rule=rule, more=f"identity: {{token: {{{text}}}}}\n{more}")


GOOD: Final = {
    "": BASE,
    "authorization": f"{BASE}, header: authorization",
    "transaction": TRANSACTION,
    "claims": f"{BASE}, claims: {{tenant: org, edge: {{value: 7}}, tctx.path: {{request: path}}, sub: oid}}",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_can_be_minted(text: str) -> None:
    """Each of these loads without a problem."""
    assert problems(token(text)) == []


FORWARDED: Final = {
    "a JWT of ours is beside the caller's token": (BASE, "", True),
    "a transaction token is in its place": (TRANSACTION, "", False),
    "a JWT alone, if the operator says so": (BASE, "token: {forward: false}\n", False),
    "both, if the operator says so": (TRANSACTION, "token: {forward: true}\n", True),
}


@pytest.mark.parametrize(("text", "more", "forwarded"), FORWARDED.values(), ids=FORWARDED)
def test_whether_the_callers_token_goes_upstream_too(text: str, more: str, forwarded: bool) -> None:  # noqa: FBT001 - what is expected
    """What is decided and what Envoy must allow to be removed agree."""
    config = configure(more=f"identity: {{token: {{{text}}}}}\n{more}")
    assert build_snapshot(config).token.forward is forwarded
    assert ("authorization" in requirements_of(config).written) is not forwarded


BAD: Final = {
    "audience: [a]": "identity.token.issuer: must be given",
    "issuer: '', audience: [a]": "identity.token.issuer: must be given",
    "issuer: i, audience: []": "identity.token.audience: must name the upstream",
    f"{BASE}, header: Txn": "identity.token.header: the name of a header must be in lower case",
    f"{BASE}, header: cookie": "identity.token.header: this header frames the request or carries credentials",
    f"{BASE}, header: x-envoy-token": "identity.token.header: names that begin with x-envoy- are reserved",
    f"{TRANSACTION}, header: authorization": "identity.token.header: a transaction token must not be sent in",
    "format: transaction-token, audience: [a, b], workload: w": "identity.token.audience: a transaction token",
    "format: transaction-token, audience: [a]": "identity.token.workload: must be given",
    f"{BASE}, claims: {{exp: org}}": "identity.token.claims.exp: is written by the sidecar",
    f"{BASE}, claims: {{a.b: org, a: org}}": "identity.token.claims.a: is a part of 'a.b'",
    f"{BASE}, claims: {{'a..b': org}}": "claim path cannot be read",
    f"{BASE}, claims: {{a: {{}}}}": "identity.token.claims.a: must have exactly one of claim, value and request",
    f"{BASE}, claims: {{a: {{claim: b, value: c}}}}": "must have exactly one of claim, value and request",
    f"{BASE}, claims: {{a: 'b..c'}}": "claim path cannot be read",
    f"{BASE}, claims: {{a: 7}}": "must be a claim path, or a mapping",
    f"{BASE}, claims: {{{', '.join(f'c{number}: org' for number in range(65))}}}": "has 65 claims, at most 64",
    f"{BASE}, lifetime: 2h": "identity.token.lifetime: must be at most 1h",
}


@pytest.mark.parametrize(("text", "said"), BAD.items(), ids=str)
def test_what_no_upstream_could_verify(text: str, said: str) -> None:
    """One problem each, with its path."""
    found = problems(token(text))
    assert len(found) == 1, found
    assert said in found[0]


def test_one_header_has_one_meaning() -> None:
    """It is neither an identity header, in any spelling, nor another place of the caller's token."""
    both = small(more=f"identity: {{token: {{{BASE}, header: x-token}}, headers: {{x_token: sub}}}}\n")
    assert any("is an identity header too" in line for line in problems(both))
    source = "token: {sources: [{header: x-token}]}\n"
    assert any("is a token source" in line for line in problems(token(f"{BASE}, header: x-token", more=source)))


ROTATIONS: Final = {
    "rotation: {ahead: 5m}": "signing.rotation.ahead: must be longer than publish.max_age, 5m",
    "rotation: {every: 10m}": "signing.rotation.every: must be longer than ahead, 15m",
    "rotation: {follow: true}": "signing.rotation.follow: needs the state_file",
    "publish: {discovery: true}": "signing.publish.discovery: needs the url",
    "publish: {url: ftp://a}": "signing.publish.url: must be an absolute URL",
    "publish: {url: 'https://a.test/a;b'}": "signing.publish.url: its path is ambiguous",
    "keys: {a: {kind: file, file: f}}, rotation: {state_file: s}": "signing.rotation.state_file: is for keys that the",
    "rotation: {shared_secret_file: s}": "signing.rotation.shared_secret_file: needs shared_state",
}


@pytest.mark.parametrize(("text", "said"), ROTATIONS.items(), ids=str)
def test_keys_that_a_reader_could_not_know(text: str, said: str) -> None:
    """A key must be published for longer than readers cache; documents are served at one host and path."""
    found = problems(token(BASE, more=f"signing: {{{text}}}\n"))
    assert len(found) == 1, found
    assert said in found[0]


def test_keys_have_one_place() -> None:
    """Those that the sidecar generates are in a file, or in the shared state."""
    shared = "shared_state: {url: redis://127.0.0.1:1}\n"

    def found(text: str) -> list[str]:
        return problems(token(BASE, more=f"{shared}signing: {{{text}}}\n"))

    assert found("rotation: {shared_secret_file: s}") == []
    (both,) = found("rotation: {shared_secret_file: s, state_file: f}")
    assert "two places of the keys" in both
    (listed,) = found("rotation: {shared_secret_file: s}, keys: {a: {kind: file, file: f}}")
    assert "is for keys that the sidecar generates" in listed


def test_a_discovery_document_needs_a_host() -> None:
    """It is served below the issuer, which must be a URL."""
    found = problems(
        token("issuer: gateway, audience: [a]", more="signing: {publish: {url: https://a.test/k, discovery: true}}\n")
    )
    assert len(found) == 1
    assert "signing.publish.discovery" in found[0]


def test_workers_share_their_keys() -> None:
    """Without a file each worker would sign by a key that the others do not publish."""
    workers = "server: {workers: 2}\n"
    (found,) = problems(token(BASE, more=workers))
    assert "signing.rotation.state_file: must be given" in found
    assert problems(token(BASE, more=f"{workers}signing: {{rotation: {{state_file: s}}}}\n")) == []
    shared = "shared_state: {url: redis://127.0.0.1:1}\nsigning: {rotation: {shared_secret_file: s}}\n"
    assert problems(token(BASE, more=f"{workers}{shared}")) == []
    assert problems(small(more=workers)) == []


def test_what_has_no_effect_is_said() -> None:
    """An audience, a URL and a kid for which nothing is signed; without a token, and with one."""
    said = [str(each) for each in warnings(configure(rule="upstream_audience: [a]"))]
    assert any("upstream_audience: has no effect" in each for each in said)
    said = [str(each) for each in warnings(configure(more="signing: {publish: {url: https://a.test/k}}\n"))]
    assert any("signing.publish.url: has no effect" in each for each in said)
    two = "signing: {keys: {a: {kind: memory, kid: k}, b: {kind: memory}}}\n"
    said = [str(each) for each in warnings(configure(more=f"identity: {{token: {{{BASE}}}}}\n{two}"))]
    assert any("signing.keys.a.kid: has no effect" in each for each in said)
    assert any("signing.keys.b: has no effect" in each for each in said)


def test_a_key_that_a_restart_forgets_is_for_readers_in_the_pod() -> None:
    """Readers at a URL may fetch only at intervals, as Envoy does; a key that is kept, or listed, is known to them."""

    def said(more: str) -> list[str]:
        config = configure(more=f"identity: {{token: {{{BASE}}}}}\n{more}")
        return [each for each in map(str, warnings(config)) if "begins with a new key" in each]

    published = "publish: {url: https://a.test/k}"
    assert len(said(f"signing: {{{published}}}\n")) == 1
    assert said("") == []
    assert said(f"signing: {{{published}, rotation: {{state_file: s}}}}\n") == []
    assert said(f"signing: {{{published}, keys: {{a: {{kind: file, file: f}}}}}}\n") == []


def test_subjects_of_several_issuers() -> None:
    """`sub` alone does not tell users of two issuers apart: the token must say the issuer too."""
    other = "  other: {issuer: https://other.test, audiences: [a]}\nrules:"
    text = token(BASE).replace("rules:", other, 1)
    from authz.config.load import parse  # noqa: PLC0415 - here alone

    said = [str(each) for each in warnings(parse(text, file="a.yaml"))]
    assert any("identity.token.claims: sub is unique within one issuer only" in each for each in said)
    text = token(f"{BASE}, claims: {{caller_iss: iss}}").replace("rules:", other, 1)
    assert not [each for each in warnings(parse(text, file="a.yaml")) if "identity" in str(each)]


def test_an_audience_of_a_rule() -> None:
    """A rule's own is built, and may not be empty."""
    rule = build_snapshot(configure(rule="upstream_audience: [a, b]")).policy.rules[0]
    assert rule.upstream_audiences == ("a", "b")
    (found,) = problems(token(BASE, rule="upstream_audience: []"))
    assert "upstream_audience: must not be empty" in found


def test_what_is_built() -> None:
    """The core's value has all that is written; a changed configuration has another digest."""
    text = f"identity: {{token: {{{GOOD['claims']}, scope: granted, lifetime: 1m, shadowed: true}}}}\n"
    minting = build_snapshot(configure(more=text)).minting
    assert minting is not None
    assert (minting.header, minting.format, minting.lifetime) == ("txn-token", TokenFormat.JWT, 60.0)
    assert (minting.scope, minting.shadowed, minting.reused, minting.key) == (ScopeClaim.GRANTED, True, True, None)
    values = {str(each.path): each.value for each in minting.claims}
    assert values["edge"] == FixedValue(7)
    assert values["tctx.path"] is RequestField.PATH
    assert isinstance(values["tenant"], CopiedValue)
    other = build_snapshot(configure(more=text.replace("1m", "2m"))).minting
    assert other is not None
    assert other.digest != minting.digest
    transaction = build_snapshot(configure(more=f"identity: {{token: {{{TRANSACTION}}}}}\n")).minting
    assert transaction is not None
    assert (transaction.reused, transaction.workload) == (False, "gateway.test")


def test_a_header_that_is_no_longer_overwritten() -> None:
    """`--diff` says that a client's header then reaches the upstream."""
    with_, without = configure(more=f"identity: {{token: {{{BASE}}}}}\n"), configure()
    (change,) = [each for each in compare_settings(with_, without) if each.about == "identity.token.header"]
    assert change.effect.name == "WIDENS"
    (change,) = [each for each in compare_settings(without, with_) if each.about == "identity.token.header"]
    assert change.effect.name == "NARROWS"
