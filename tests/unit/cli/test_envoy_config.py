"""Proves `authz envoy-config`: what it prints fits the configuration, the real Envoy takes it, and the charts agree."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from click.testing import CliRunner, Result

from authz.cli import main
from authz.config.document import parse_document
from authz.config.load import parse
from authz.demo.envoy import validate
from authz.tooling.envoy_config.bootstrap import bootstrap, fragments, write
from authz.tooling.envoy_config.comments import COMMENTS
from authz.tooling.envoy_config.derive import derive, endpoints, notes
from authz.tooling.envoy_config.fragments import EnvoySettings
from authz.tooling.envoy_config.review import review
from authz.tooling.envoy_config.yaml_text import write_yaml
from tests.tools import ROOT
from tests.unit.tooling.envoy_samples import BASE, SAMPLES, sample

WORKERS = [("unix", 3), ("mutual TLS", 2)]
CASES = [*((name, 1) for name in SAMPLES), *WORKERS]


@pytest.fixture(scope="module")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Envoy's own certificate, its key and an authority, under the names that a Secret gives them."""
    folder, ca = tmp_path_factory.mktemp("tls"), trustme.CA()
    own = ca.issue_cert("envoy")
    ca.cert_pem.write_to_path(str(folder / "ca.crt"))
    own.private_key_pem.write_to_path(str(folder / "tls.key"))
    own.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
    return folder


def whole(fitted: EnvoySettings) -> dict[str, object]:
    """A bootstrap on ports that Envoy chooses."""
    return bootstrap(fitted, listen="127.0.0.1:0", upstream="localhost:3000", admin="127.0.0.1:0")


def run(config: str, tmp_path: Path, *arguments: str) -> Result:
    """Run `authz envoy-config` on this configuration."""
    file = tmp_path / "authz.yaml"
    file.write_text(config, encoding="utf-8")
    return CliRunner().invoke(main, ["envoy-config", "--config", str(file), *arguments])


@pytest.mark.needs("envoy")
@pytest.mark.parametrize(("name", "workers"), CASES)
def test_envoy_takes_what_is_printed(name: str, workers: int, tls_folder: Path, tmp_path: Path) -> None:
    """The real Envoy validates the text of the bootstrap for every kind of configuration."""
    config = sample(name, workers=workers)
    file = tmp_path / "envoy.yaml"
    fitted = derive(config, tls_folder=str(tls_folder), peer_certificate=True, trusted_hops=1)
    file.write_text(write(whole(fitted), notes(config)), encoding="utf-8")
    validate(file, tmp_path)
    assert "deprecated" not in (tmp_path / "envoy-validate.log").read_text(encoding="utf-8").lower()


@pytest.mark.needs("envoy")
def test_the_pieces_make_a_bootstrap(tmp_path: Path) -> None:
    """Pasted where their keys say, the pieces are what the bootstrap has, and Envoy takes the result."""
    fitted = derive(sample("cookies"))
    pasted: Any = whole(fitted)
    listener = pasted["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    cut: Any = fragments(fitted)
    own = cut["http_connection_manager"]
    assert {key: manager[key] for key in own if key != "http_filters"} == {
        key: value for key, value in own.items() if key != "http_filters"
    }
    manager["http_filters"] = [*own["http_filters"], manager["http_filters"][-1]]
    pasted["static_resources"]["clusters"][0] = cut["clusters"][0]
    (tmp_path / "envoy.json").write_text(json.dumps(pasted), encoding="utf-8")
    validate(tmp_path / "envoy.json", tmp_path)


@pytest.mark.parametrize("whole_file", [False, True])
@pytest.mark.parametrize(("name", "workers"), CASES)
def test_what_is_printed_is_clean(name: str, workers: int, *, whole_file: bool) -> None:
    """The review finds nothing in our own words, neither in the pieces nor in the bootstrap: not even a note."""
    config = sample(name, workers=workers)
    fitted = derive(config)
    text = write(whole(fitted) if whole_file else fragments(fitted), notes(config))
    assert review(parse_document(text, file="envoy.yaml"), config) == []


def test_headers_that_a_service_needs_are_kept(tmp_path: Path) -> None:
    """Named by --keep-header, read by a condition, or the place of a token: such a header is not removed."""
    assert "|x[-_]forwarded[-_]host|" in run(BASE, tmp_path).stdout
    kept = run(BASE, tmp_path, "--keep-header", "X-Forwarded-Host")
    assert "x[-_]forwarded[-_]host" not in kept.stdout
    assert "x[-_]rewrite[-_]url" in kept.stdout
    wrong = run(BASE, tmp_path, "--keep-header", "x-auth-subject")
    assert wrong.exit_code == 2
    assert "only forwarded, x-forwarded-host, " in " ".join(wrong.stderr.split())
    condition = """require: {when: 'request.headers["x-forwarded-prefix"] == "/shop"'}"""
    assert (
        "x[-_]forwarded[-_]prefix" not in run(BASE.replace('["/**"]}}', f'["/**"]}}, {condition}}}'), tmp_path).stdout
    )


def test_the_charts_say_the_same() -> None:
    """The connection manager, filter, access log and cluster of the charts are those of this maker, value by value."""
    values = yaml.safe_load((ROOT / "deploy/envoy/values.yaml").read_text(encoding="utf-8"))
    config = parse(json.dumps(values["authz"]["config"]), file="values.yaml")
    fitted = derive(config, peer_certificate=True)
    charts = yaml.safe_load((ROOT / "deploy/envoy/envoy.yaml").read_text(encoding="utf-8"))["static_resources"]
    rendered = charts["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    made: Any = fragments(fitted)
    for key, value in made["http_connection_manager"].items():
        if key != "http_filters":
            assert rendered[key] == value, key
    (own,) = made["http_connection_manager"]["http_filters"]
    assert own in rendered["http_filters"]
    assert charts["clusters"][0] == made["clusters"][0]


def test_every_setting_that_matters_is_explained() -> None:
    """Each comment is printed for some configuration: none speaks of what is not there any more."""
    printed = "".join(
        write(data, [])
        for name, workers in CASES
        for fitted in [replace(derive(sample(name, workers=workers)), raw_headers=True, metadata_namespaces=("x",))]
        for data in (whole(fitted), fragments(fitted))
    )
    words = re.sub(r"\n *# ", " ", printed)
    assert [way for way, text in COMMENTS.items() if text not in words] == []


@pytest.mark.parametrize(("name", "workers"), CASES)
def test_comments_change_nothing(name: str, workers: int) -> None:
    """What is written reads back as what was meant, and its lines fit a screen, types of Envoy's aside."""
    data = whole(derive(sample(name, workers=workers)))
    text = write(data, notes(sample(name)))
    assert yaml.safe_load(text) == data
    assert [line for line in text.splitlines() if len(line) > 120 and "@type" not in line and "regex" not in line] == []


def test_words_that_look_like_others_are_quoted() -> None:
    """Text that YAML would take for something else stays text."""
    data = {"a": "no", "b": "1s", "c": "0", "d": ["*", "%X%"], "e": {"@type": "x" * 90}, "f": [], "g": {}, "h": None}
    assert yaml.safe_load(write_yaml(data, {"e.@type": "why"})) == data


@pytest.mark.parametrize(
    ("name", "workers", "host", "expected"),
    [
        ("unix", 1, None, ("unix:/run/authz/authz.sock",)),
        ("unix", 2, None, ("unix:/run/authz/authz-0.sock", "unix:/run/authz/authz-1.sock")),
        ("loopback", 2, None, ("127.0.0.1:9191", "127.0.0.1:9192")),
        ("mutual TLS", 1, None, ("127.0.0.1:9191",)),
        ("mutual TLS", 2, "authz.shop.svc", ("authz.shop.svc:9191", "authz.shop.svc:9192")),
        ("TLS", 1, None, ("[::1]:9191",)),
    ],
)
def test_every_worker_is_an_endpoint(name: str, workers: int, host: str | None, expected: tuple[str, ...]) -> None:
    """Each socket or port of the sidecar, at the host where Envoy reaches it."""
    assert endpoints(sample(name, workers=workers), host=host) == expected


def test_the_rest_fits_too() -> None:
    """Timeout, bounds and spellings follow the configuration; TLS is mutual where the sidecar asks for it."""
    assert derive(sample("patient")).timeout_ms == 2400
    assert derive(sample("asking")).timeout_ms == 1000 + 3000 + 400  # a key, then a decision
    assert derive(sample("busy")).max_requests == 5_000
    assert derive(sample("long tokens")).max_headers_kb > 100
    assert not derive(sample("odd paths")).merge_slashes
    assert derive(sample("odd paths")).escaped_slashes == "KEEP_UNCHANGED"
    assert derive(sample("cookies")).mutable == (
        r"x[-_]auth[-_]subject",
        r"x[-_]auth\.v1\+org",
        "authorization",
        "cookie",
    )
    mutual, one_sided = derive(sample("mutual TLS"), host="authz").tls, derive(sample("TLS")).tls
    assert mutual is not None
    assert one_sided is not None
    assert (mutual.server_name, mutual.cert_file) == ("authz", "/etc/envoy-authz-tls/tls.crt")
    assert (one_sided.server_name, one_sided.cert_file) == ("::1", None)


def test_the_command(tmp_path: Path) -> None:
    """Pieces by default, a bootstrap on request, each also as JSON; remarks at the head, where they apply."""
    assert yaml.safe_load(run(BASE, tmp_path).stdout).keys() == {"http_connection_manager", "clusters"}
    result = run(SAMPLES["resource"] + "token: {sources: [{cookie: s}]}", tmp_path, "--bootstrap", "--json")
    assert json.loads(result.stdout)["static_resources"]["clusters"][1]["name"] == "upstream"
    text = run(SAMPLES["resource"] + "token: {sources: [{cookie: s}]}", tmp_path).stdout
    assert "oauth-protected-resource" in text
    assert "sec-fetch-site" in text
    assert "sec-fetch-site" not in run(BASE, tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bootstrap", "--listen", "8080"], "host:port"),
        (["--accept", "fails-open"], "--check"),
        (["--check", "/nowhere"], "does not exist"),
    ],
)
def test_wrong_arguments(arguments: list[str], said: str, tmp_path: Path) -> None:
    """Exit 2, and what to write instead."""
    result = run(BASE, tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_checking_a_file(tmp_path: Path) -> None:
    """Findings with file, line and advice make exit 1; accepted ones do not count; JSON has it all."""
    envoy = tmp_path / "envoy.yaml"
    printed = run(BASE, tmp_path, "--bootstrap").stdout
    envoy.write_text(printed, encoding="utf-8")
    clean = run(BASE, tmp_path, "--check", str(envoy))
    assert (clean.exit_code, clean.stdout) == (0, f"{envoy}: ok, notes: 0\n")

    envoy.write_text(printed.replace("failure_mode_allow: false", "failure_mode_allow: true"), encoding="utf-8")
    line = next(at for at, text in enumerate(printed.splitlines(), 1) if "failure_mode_allow" in text)
    found = run(BASE, tmp_path, "--check", str(envoy))
    assert found.exit_code == 1
    assert found.stdout.startswith(f"{envoy}:{line}: finding: fails-open: static_resources.listeners[0].")
    assert "(failure_mode_allow: false)" in found.stdout
    assert run(BASE, tmp_path, "--check", str(envoy), "--accept", "fails-open").exit_code == 0
    (told,) = json.loads(run(BASE, tmp_path, "--check", str(envoy), "--json").stdout)["findings"]
    assert (told["name"], told["level"], told["line"]) == ("fails-open", "finding", line)

    slip = run(BASE, tmp_path, "--check", str(envoy), "--accept", "fail-open")
    assert slip.exit_code == 2
    assert "did you mean `fails-open`?" in slip.stderr


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "not valid YAML"), ("a: &x 1\nb: *x", "anchors"), ("a: 1\na: 2", "duplicate key")]
)
def test_a_file_that_cannot_be_read(text: str, said: str, tmp_path: Path) -> None:
    """What cannot be looked through is no clean file: exit 2, with the line."""
    envoy = tmp_path / "envoy.yaml"
    envoy.write_text(text, encoding="utf-8")
    result = run(BASE, tmp_path, "--check", str(envoy))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{envoy}:")
    assert said in result.stderr
