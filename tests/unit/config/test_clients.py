"""Proves the checks of clients, throttle, risk and of what rules require of it, and what is built of them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from authz.config.build import build_clients, build_risk, build_rules, build_snapshot
from authz.config.diagnostics.warnings import warnings
from authz.config.load import parse
from authz.config.model import Config
from authz.config.problems import ConfigError
from authz.core.requirements import Requirements, RiskRequirement
from authz.core.risk import Assessment
from authz.core.throttle import ClientRules, Throttle
from authz.tooling.describe import describe_rule
from authz.tooling.envoy_config.derive import max_waits, notes

BASE = """version: 1
issuers:
  a: {issuer: "https://a.test", audiences: [api]}
"""
RULES = "rules: [{name: all, match: {paths: ['/**']}}]\n"
ENGINE = "risk: {url: 'https://risk.test/v1/assess'}\n"


def load(more: str, rules: str = RULES) -> Config:
    """Load a small configuration with *more*."""
    return parse(BASE + more + rules, file="authz.yaml")


def ruled(require: str, more: str = "") -> Config:
    """Load one whose only rule requires this."""
    return load(more, f"rules: [{{name: all, match: {{paths: ['/**']}}, require: {require}}}]\n")


def refused(more: str, require: str | None = None) -> str:
    """Return what is wrong."""
    with pytest.raises(ConfigError) as error:
        load(more) if require is None else ruled(require, more)
    return str(error.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("clients: {trusted_proxies: [nonsense]}", "clients.trusted_proxies[0]: is not a network"),
        ("clients: {trusted_proxies: [10.0.0.1/8]}", "clients.trusted_proxies[0]: has bits set behind the prefix"),
        ("clients: {trusted_proxies: [10.0.0.0/8, '::/0']}", "clients.trusted_proxies[1]: trusts every client"),
        ("clients: {ipv4_prefix: 33}", "must be at most 32"),
        ("clients: {ipv6_prefix: 31}", "must be at least 32"),
        ("throttle: {failures: 0}", "must be at least 1"),
        ("throttle: {window: 2d}", "must be a duration"),
        ("risk: {kind: http}", "risk.url"),
        ("risk: {url: 'http://risk.test/x'}", "or set risk.insecure.http"),
        (
            "risk: {url: 'https://r.test/', bearer_token_file: /t, basic_credentials_file: /b}",
            "one Authorization header",
        ),
        ("risk: {url: 'https://r.test/', client_cert_file: /c}", "needs client_key_file too"),
        ("risk: {url: 'https://r.test/', client_key_file: /k}", "needs client_cert_file too"),
        ("risk: {url: 'https://r.test/', send_headers: [authorization]}", "holds a token or credentials"),
        ("risk: {url: 'https://r.test/', send_headers: [X-Device]}", "in lower case"),
        ("risk: {url: 'https://r.test/', on_error: {}}", "must have a level, a score, or both"),
        ("risk: {url: 'https://r.test/', on_error: {score: .nan}}", "must be a finite number"),
    ],
)
def test_what_is_refused(more: str, message: str) -> None:
    """Each mistake is reported at its place."""
    assert message in refused(more + "\n")


@pytest.mark.parametrize(
    ("require", "more", "message"),
    [
        ("{risk: {}}", "", "must name what is risky"),
        ("{risk: {step_up: {acr: [x]}}}", "", "must name what is risky"),
        ("{risk: {known_network: true, step_up: {}}}", "", "step_up: must not be empty"),
        ("{risk: {max_failures_1m: -1}}", "", "must be at least 0"),
        ("{risk: {max_score: 0.7}}", "", "none is configured"),
        ("{risk: {levels: [low]}}", "", "none is configured"),
        ("{risk: {max_score: .inf}}", ENGINE, "must be a finite number"),
    ],
)
def test_what_no_rule_can_require(require: str, more: str, message: str) -> None:
    """A requirement of nothing, and one of an engine that is not there."""
    assert message in refused(more, require)


def test_nothing_is_counted_unless_something_asks() -> None:
    """Without throttle, and without a rule that reads the risk, the snapshot knows no clients and no engine."""
    snapshot = build_snapshot(load("clients: {ipv4_prefix: 24}\n"))
    assert (snapshot.clients, snapshot.risk) == (None, None)
    assert snapshot.policy.rules[0].requirements.risk is None


def test_what_is_built() -> None:
    """Networks, limits and the engine, as they are written."""
    config = load("clients: {trusted_proxies: [10.0.0.0/8], ipv4_prefix: 24}\nthrottle: {failures: 5, window: 2m}\n")
    built = build_clients(config)
    assert built is not None
    assert built.throttle == Throttle(failures=5, window=120.0)
    assert (built.networks.ipv4_prefix, built.networks.ipv6_prefix) == (24, 64)
    assert built.networks.trusted_proxies == (ip_network("10.0.0.0/8"),)
    counted = build_clients(ruled("{risk: {max_failures_1m: 20}}"))
    assert counted == ClientRules()


def test_what_a_rule_requires_is_built() -> None:
    """Each part, with the login that is the way out."""
    config = ruled(
        "{risk: {max_failures_1m: 1, max_failures_1h: 2, max_subject_failures_1m: 3, max_subject_failures_1h: 4, "
        "known_network: true, max_score: 0.5, levels: [low], step_up: {acr: [mfa], amr: [hwk], max_age: 5m}}}",
        ENGINE,
    )
    (rule,) = build_rules(config)
    assert rule.requirements.risk == RiskRequirement(
        max_failures_1m=1,
        max_failures_1h=2,
        max_subject_failures_1m=3,
        max_subject_failures_1h=4,
        known_network=True,
        max_score=0.5,
        levels=("low",),
        asks_engine=True,
        step_up=Requirements(acr=("mfa",), amr=("hwk",), max_age=300.0),
    )
    assert describe_rule(rule) == (
        "authenticated with at most 1 failures_1m; at most 2 failures_1h; at most 3 subject_failures_1m; "
        "at most 4 subject_failures_1h; a known network; a risk score of at most 0.5; risk level low; "
        "else acr mfa; amr hwk; authenticated within 300 s"
    )


def test_an_answer_of_the_engine_is_of_its_configuration() -> None:
    """Another URL or other headers make other questions; what a failure counts as does not."""
    one, error, other = (
        build_risk(load(text))
        for text in (
            ENGINE,
            ENGINE.replace("}", ", on_error: {level: high, score: 0.9}}"),
            ENGINE.replace("}", ", send_headers: [user-agent]}"),
        )
    )
    assert one is not None
    assert error is not None
    assert other is not None
    assert one.source == error.source != other.source
    assert (one.on_error, error.on_error) == (None, Assessment("high", 0.9))
    assert other.headers == ("user-agent",)


def test_envoy_waits_for_the_engine() -> None:
    """Its longest wait is part of Envoy's timeout."""
    assert max_waits(load(ENGINE))["risk"] == 0.5
    assert max_waits(load(""))["risk"] == 0.0


def test_operators_learn_whose_address_counts() -> None:
    """If failures count by the peers of Envoy, the notes of envoy-config say so."""
    said = "Failures are counted by the address of Envoy's peer"
    assert any(said in note for note in notes(load("throttle: {failures: 5}\n")))
    trusted = "throttle: {failures: 5}\nclients: {trusted_proxies: [10.0.0.0/8]}\n"
    assert not any(said in note for note in notes(load(trusted)))
    assert not any(said in note for note in notes(load("")))


def test_warnings_name_what_workers_do_not_share_and_shadow() -> None:
    """With several workers a network fails as often at each of them; a throttle in shadow is said to be one."""
    found = {
        str(warning) for warning in warnings(load("server: {workers: 3}\nthrottle: {failures: 5, shadow: true}\n"))
    }
    assert any("a network can fail 15 times: each worker counts for itself" in text for text in found)
    assert any("only reported" in text for text in found)
    assert not any("throttle" in str(warning) for warning in warnings(load("throttle: {failures: 5}\n")))
