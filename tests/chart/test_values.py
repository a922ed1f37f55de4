"""Proves that Helm changes no rule: what the chart renders decides as the file it was written as, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from authz.config.load import parse
from authz.config.model import Config
from authz.config.problems import ConfigError
from tests.chart.helm import HELMS, Charts, only

pytestmark = [pytest.mark.needs("helm"), pytest.mark.xdist_group("chart-values")]

FILE: Final = """version: 1
issuers:
  corporate: {issuer: "https://login.example.com/", audiences: [orders-api]}
rules:
  - name: orders
    match: {paths: ["/orders/**"]}
    require:
      claims:
        tenant: [VALUES]
        KEY: [known]
"""
CHART: Final = """authz:
  image: {repository: platform/authz}
CONFIG
proxy:
  upstream: {host: orders, podLabels: {app: orders}}
"""

# Words without quotes, and what YAML 1.1 in Helm makes of them.
CHANGED: Final = {
    "9007199254740993": "another number",
    "-9007199254740993": "another number",
    "NO": "false",
    "yes": "true",
    "on": "true",
    "true": "what yes is too",
    "0660": "432",
    "1_000": "1000",
    "0b11": "3",
    "42": "what 052 is too",
    "1.0": "1",
    "NO, SE": "a list of two types",
}
KEPT: Final = (
    "SE",
    "1:30",
    "2024-01-01",
    '"NO"',
    '"0660"',
    '"9007199254740993"',
    "'1e3'",
    "0o8",
    '" a"',
    '"\\n"',
)
CHANGED_KEYS: Final = ("NO", "on", "1", "1.5", "true", '"1"')


def written(values: str, key: str = "country") -> str:
    """The configuration with these values and this key, as it stands in them."""
    return FILE.replace("VALUES", values).replace("KEY", key)


def render(charts: Charts, helm: str, values: str, *arguments: str | Path) -> tuple[dict[str, Any] | None, str]:
    """Render the chart with this text of values: its ConfigMap, or None and why it is refused."""
    file = charts.folder / f"written-{helm}.yaml"
    file.write_text(values, encoding="utf-8")
    done = charts.run(
        helm, "template", "orders", charts.app, "--values", file, "--show-only", "templates/config.yaml", *arguments
    )
    if done.returncode != 0:
        return None, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    return only(documents, "ConfigMap", name="orders-authz")["data"], ""


def rendered(charts: Charts, helm: str, config: str) -> tuple[str | None, str]:
    """What becomes of a configuration in `authz.config`."""
    data, why = render(charts, helm, CHART.replace("CONFIG", "  config:\n" + indent(config, "    ")))
    return (None, why) if data is None else (data["authz.yaml"], "")


def meaning(text: str) -> Config | None:
    """What a file says besides where to listen; None if the sidecar refuses it."""
    try:
        config = parse(text, file="authz.yaml")
    except ConfigError:
        return None
    plain = parse(written("a"), file="plain.yaml")
    return config.model_copy(update={"server": plain.server, "admin": plain.admin})


@pytest.mark.parametrize("helm", HELMS)
def test_what_helm_would_change_is_refused(charts: Charts, helm: str) -> None:
    """A number, a word that is true or false in YAML 1.1, or such a key: the message says where, and what to do."""
    for values in CHANGED:
        text, why = rendered(charts, helm, written(values))
        assert text is None, values
        assert "authz.config.rules[0].require.claims.tenant" in why
        assert "quote it" in why
        assert "authz.configText" in why
    for key in CHANGED_KEYS:
        text, why = rendered(charts, helm, written("a", key))
        assert text is None, key
        assert "authz.config.rules[0].require.claims: a key has become" in why


@pytest.mark.parametrize("helm", HELMS)
def test_what_helm_keeps_arrives(charts: Charts, helm: str) -> None:
    """Text in quotes, and what is text to every YAML, is not refused for nothing."""
    config = written(", ".join(KEPT))
    text, why = rendered(charts, helm, config)
    assert text is not None, why
    assert meaning(text) == meaning(config) is not None


@pytest.mark.parametrize("helm", HELMS)
def test_keys_and_values_of_a_key_set_are_text(charts: Charts, helm: str) -> None:
    """A kid without quotes, which Helm would take for a number, is refused."""
    key = '{kty: EC, crv: P-256, x: "MA", "y": "MA", kid: 1e3}'
    config = written("a").replace("audiences:", f"jwks: {{keys: [{key}]}}, audiences:")
    _, why = rendered(charts, helm, config)
    assert "authz.config.issuers.corporate.jwks: kid is text, quote it" in why


def plain(word: str) -> bool:
    """Whether YAML takes a word without quotes, in a list in brackets."""
    try:
        return bool(word.strip()) and yaml.safe_load(f"[{word}]") is not None and len(yaml.safe_load(f"[{word}]")) == 1
    except (yaml.YAMLError, ValueError):
        return False


WORDS: Final = st.text("0123456789_.-+eExobYyNnOoFfTtRrUuLlSs:~", min_size=1, max_size=6).filter(plain)
TEXTS: Final = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12).map(json.dumps)


@pytest.mark.parametrize("helm", HELMS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, min_size=1, max_size=2), texts=st.lists(TEXTS, max_size=3), key=st.one_of(WORDS, TEXTS))
@example(words=["SE"], texts=['"\\u2028"', '"# no comment"', '"{{ .Values }}"'], key="a-b")
@example(words=["0660"], texts=[], key="a")
def test_file_and_chart_decide_alike_or_the_chart_refuses(
    charts: Charts, helm: str, words: list[str], texts: list[str], key: str
) -> None:
    """Whatever is written, and is a configuration: the file that the chart renders means the same, or there is none."""
    config = written(", ".join([*words, *texts]), key)
    meant = meaning(config)
    assume(meant is not None)
    text, _ = rendered(charts, helm, config)
    assert text is None or meaning(text) == meant


@pytest.mark.parametrize("helm", HELMS)
def test_text_arrives_as_it_is(charts: Charts, helm: str, tmp_path: Path) -> None:
    """In authz.configText, and from a file, no parser touches the configuration: all words mean what they mean."""
    words = [*CHANGED, *KEPT]
    config = written(", ".join(words), "NO") + "identity: {headers: {x-auth-subject: sub}}\n"
    file = tmp_path / "authz.yaml"
    file.write_text(config, encoding="utf-8")
    empty = CHART.replace("CONFIG\n", "")
    by_value = CHART.replace("CONFIG", "  configServer: {workers: 2}\n  configText: |\n" + indent(config, "    "))
    for values, arguments in ((by_value, ()), (empty, ("--set-file", f"authz.configText={file}"))):
        data, why = render(charts, helm, values, *arguments)
        assert data is not None, why
        assert config in data["authz.yaml"]
        assert meaning(data["authz.yaml"]) == meaning(config) is not None
    documents = charts.render(charts.app, "--values", file_of(by_value, tmp_path), helm=helm)
    envoy = only(documents, "ConfigMap", name="orders-authz-envoy")["data"]["envoy.yaml"]
    assert "x[-_]auth[-_]subject" in envoy  # what Envoy must be told is read from the text
    assert "/run/authz/authz-1.sock" in envoy


def file_of(values: str, folder: Path) -> Path:
    """The values in a file."""
    file = folder / "values.yaml"
    file.write_text(values, encoding="utf-8")
    return file


WRONG_TEXT: Final = {
    "server: {workers: 2}\n": "authz.configText must not have server",
    "admin: {listen: '127.0.0.1:1'}\n": "authz.configText must not have admin",
    "identity: {headers: {no: sub}}\n": "authz.configText: identity.headers: a key has become",
    "token: {sources: [{header: no}]}\n": "authz.configText: token.sources: put the name of the header in quotes",
    "}\n": "authz.configText is not YAML",
}


@pytest.mark.parametrize("helm", HELMS)
def test_text_that_does_not_fit_is_refused(charts: Charts, helm: str) -> None:
    """What the chart writes itself, or must read of the text to fit Envoy to it."""
    for more, told in WRONG_TEXT.items():
        values = CHART.replace("CONFIG", "  configText: |\n" + indent(written("a") + more, "    "))
        data, why = render(charts, helm, values)
        assert (data, told in why) == (None, True), why
    flow = CHART.replace("CONFIG", f"  configText: {json.dumps(json.dumps(yaml.safe_load(written('a'))))}")
    assert "must be in block style" in render(charts, helm, flow)[1]
