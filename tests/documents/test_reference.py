"""Proves authz/config/REFERENCE.md: every key of the model, and nothing that the sidecar does not do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import pytest

from authz.config.checks.bounds import BOUNDS
from authz.config.load import parse
from authz.config.model import Config
from authz.config.reference import ENVOY_DEPENDS_ON, key_paths, write_reference
from authz.config.schema import json_schema
from authz.config.select import select
from authz.config.settings import RESTART_REQUIRED
from authz.tooling.envoy_config.derive import derive
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import wait_until
from tests.integration.sidecars import issuer, running
from tests.tools import ROOT
from tests.unit.config.sample import SAMPLE
from tests.unit.envoy.serving import short_folder

PAGE: Final = (ROOT / "authz/config/REFERENCE.md").read_text(encoding="utf-8")
_KEY: Final = (
    r"\[?`(?P<key>[\w.]+)(?:: (?P<example>[^`]+))?`(?:\]\(#\w+\))?(?: \((?P<value>(?:`[^`]*`|[^()`]|\([^()]*\))+)\))?"
)
_ONE: Final = re.compile(_KEY)
_NAMELESS: Final = re.sub(r"\?P<\w+>", "", _KEY)
_LINES: Final = re.compile(
    r"^## (?P<title>\S+)$"
    rf"|^- (?P<keys>{_NAMELESS}(?:, {_NAMELESS})*): (?P<meaning>.+)$"
    r"|^\[Shared\]\(#shared-keys\): (?P<shared>.+)\.$"
    r"|^As \[(?P<same>\S+)\]\(\S+\)\.$",
    re.MULTILINE,
)
_COMMON: Final = re.compile(r"^- (`.+?): (.+)$", re.MULTILINE)
_SHARED: Final = re.compile(r"`(\w+)`(?: \(([^)]*)\))?")


def rows() -> dict[str, tuple[str, str]]:
    """The value and the meaning of each key, by its path; an example counts as a value."""
    page, shared = PAGE.split("## Shared keys\n")
    common = {
        key: (notes, meaning) for keys, meaning in _COMMON.findall(shared) for key, notes in _SHARED.findall(keys)
    }
    found, section = {}, ""
    for line in _LINES.finditer(page.partition("## Every key\n")[2]):
        if line["title"]:
            section = _pattern(line["title"]) + "."
        elif line["keys"]:
            for key in _ONE.finditer(line["keys"]):
                value = ", ".join(filter(None, (key["example"] and f"`{key['example']}`", key["value"])))
                found[f"{section}{key['key']}"] = (value, line["meaning"])
        elif line["same"]:
            above = _pattern(line["same"]) + "."
            found |= {section + path.removeprefix(above): row for path, row in found.items() if path.startswith(above)}
        else:
            for key, notes in _SHARED.findall(line["shared"]):
                said, meaning = common[key]
                value = ", ".join(filter(None, (notes, said)))
                found[f"{section}{key}"] = (value, meaning + " *Envoy.*" * ("*Envoy*" in value))
    return found


def _pattern(title: str) -> str:
    return re.sub(r"\bNAME\b", "*", title.replace("[]", ".*"))


def test_generated_parts_are_of_today() -> None:
    """deploy/generate.py has nothing to write."""
    argv = [sys.executable, str(ROOT / "deploy/generate.py"), "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_key_has_its_row() -> None:
    """The lines are the keys of the model, each with its value and a sentence; text, lists and sections need none.

    A small section has no line of its own: its keys are in the list of the section above.
    """
    shown, paths = rows(), set(key_paths())
    assert shown.keys() <= paths
    for path in paths - shown.keys():
        below = {inner for inner in paths if inner.startswith(f"{path}.")}
        assert below, path
        assert below <= shown.keys()
    for path, (value, what) in rows().items():
        assert value or _kind_of(path) in {"string", "array", "object", "boolean"}, path
        assert re.fullmatch(r"\S.*\.\*?", what), path


def _kind_of(path: str) -> str:
    """The type of a key in the schema; "object" is a section, or anything that may be one."""
    schema = _schema()
    node: Any = schema
    for step in path.split("."):
        node = node["properties"][step] if step != "*" else node.get("items") or node["additionalProperties"]
        node = {**schema["definitions"][node["$ref"].rpartition("/")[2]], **node} if "$ref" in node else node
    kind = node["type"]
    return kind if isinstance(kind, str) else "object" if "object" in kind else str(kind)


@cache
def _schema() -> dict[str, Any]:
    """The schema of the configuration: to make it takes a fifth of a second."""
    return json_schema()


def test_every_bound_is_shown() -> None:
    """What checks/bounds.py says stands in the row."""
    for path, (least, most) in BOUNDS.items():
        assert f"{least}-{most}" in rows()[path][0]


def test_every_value_is_accepted() -> None:
    """A default or an example is valid: each is put into a file that has all that it needs beside it."""
    assert sum("`" in value for value, _ in rows().values()) > 80
    assert all(parse(text, file=path) for path, text in examples())


def examples() -> Iterator[tuple[str, str]]:
    """Each shown value that can be put into a file, with its path; of a switch the other one than its default."""
    for path, (said, _) in rows().items():
        section, _, key = path.rpartition(".")
        value = "`false`" if not said and _kind_of(path) == "boolean" else said  # the sentence above the keys says so
        if (shown := re.search(r"`(.*?)`", value)) and section in _AROUND:
            example = {"true": "false", "false": "true"}.get(shown[1], shown[1])
            written = ", ".join((f"{key}: {example}", *_BESIDE.get(path, ())))
            yield path, _AROUND[section].replace("HERE", written)


_BESIDE: Final = {
    "issuers.*.fetch.proxy_credentials_file": ("proxy: http://proxy.internal:3128",),
    "issuers.*.fetch.client_cert_file": ("client_key_file: /tls/client.key",),
    "issuers.*.fetch.client_key_file": ("client_cert_file: /tls/client.crt",),
}
"""What a key of a section of _AROUND needs beside it."""


_ISSUER: Final = "{issuer: https://login.example.com/, audiences: [a], %s}"
_RULES: Final = "rules: [{match: {paths: [/a]}}]"
_MINIMAL: Final = f"version: 1\nissuers: {{corporate: {_ISSUER % 'leeway: 1s'}}}\n{_RULES}\n"
_WITH_RULE: Final = f"version: 1\nissuers: {{corporate: {_ISSUER % 'leeway: 1s'}}}\nrules: [%s]\n"
_AROUND: Final = {  # keys that cannot stand alone, or that stand here already, are proved by the sample
    "issuers.*.fetch": f"version: 1\nissuers: {{c: {_ISSUER % 'fetch: {HERE}'}}}\n{_RULES}\n",
    "issuers.*.jwks": f"version: 1\nissuers: {{c: {_ISSUER % 'jwks: {HERE}'}}}\n{_RULES}\n",
    "issuers.*.introspection": (
        f"version: 1\nissuers: {{c: {_ISSUER % 'introspection: {client: {id: a, secret_file: b}, HERE}'}}}\n{_RULES}\n"
    ),
    "issuers.*.insecure": f"version: 1\nissuers: {{c: {_ISSUER % 'insecure: {HERE}'}}}\n{_RULES}\n",
    "token": _MINIMAL + "token: {HERE}\n",
    "responses": _MINIMAL + "responses: {HERE}\n",
    "telemetry": _MINIMAL + "telemetry: {HERE}\n",
    "telemetry.traces": _MINIMAL + "telemetry: {traces: {HERE}}\n",
    "insecure": _MINIMAL + "insecure: {HERE}\n",
    "server": _MINIMAL + "server: {HERE}\n",
    "admin": _MINIMAL + "admin: {HERE}\n",
    "rules.*.match": _WITH_RULE % "{match: {HERE}}",
    "rules.*.require": _WITH_RULE % "{match: {paths: ['/a/{id}']}, require: {HERE}}",
}


_LISTS: Final = (
    f"version: 1\nissuers: {{c: {_ISSUER % 'status_list: {uris: [https://status.example.com/], HERE}'}}}\n{_RULES}\n"
)
_BOUND: Final = f"version: 1\nissuers: {{c: {_ISSUER % 'dpop: allowed'}}}\n{_RULES}\n"
_MINTED: Final = "identity: {token: {issuer: https://gateway.example.com, audience: [a]"
_EXCHANGED: Final = (
    "identity: {token: {audience: [a], exchange: {issuer: corporate, client: {id: a, secret_file: s}, max_wait: %s}}}\n"
)
_TOLD: Final = {  # for each key that Envoy must know, a change of it
    "server.listen": "server: {listen: 'unix:/run/other.sock'}\n",
    "server.tls": "server: {listen: '127.0.0.1:1', tls: {cert_file: a, key_file: b}}\n",
    "server.workers": "server: {workers: 2}\n",
    "server.max_concurrent": "server: {max_concurrent: 9}\n",
    "issuers.*.fetch.max_wait": _AROUND["issuers.*.fetch"].replace("HERE", "max_wait: 3s"),
    "issuers.*.introspection": _AROUND["issuers.*.introspection"].replace(", HERE", ""),
    "issuers.*.introspection.max_wait": _AROUND["issuers.*.introspection"].replace("HERE", "max_wait: 3s"),
    "shared_state": _BOUND + "shared_state: {url: redis://localhost}\n",
    "shared_state.timeout": _BOUND + "shared_state: {url: redis://localhost, timeout: 3s}\n",
    "issuers.*.status_list": _LISTS.replace(", HERE", ""),
    "issuers.*.status_list.max_wait": _LISTS.replace("HERE", "max_wait: 3s"),
    "token.sources": "token: {sources: [{header: x_token}]}\n",
    "token.max_bytes": "token: {max_bytes: 17KiB}\n",
    "token.forward": "token: {forward: false}\n",
    "pdps": "pdps: {p: {url: 'https://pdp.test/access/v1/evaluation'}}\n",
    "pdps.*.max_wait": "pdps: {p: {url: 'https://pdp.test/access/v1/evaluation', max_wait: 3s}}\n",
    "risk": "risk: {url: 'https://risk.test/x'}\n",
    "risk.max_wait": "risk: {url: 'https://risk.test/x', max_wait: 3s}\n",
    "receivers.listen": "receivers: {listen: 127.0.0.1:9193}\n",
    "rules.*.accept": _WITH_RULE % "{match: {paths: [/a]}, accept: [encoded_slash]}",
    "identity.headers": "identity: {headers: {x-auth-subject: sub}}\n",
    "identity.token.header": _MINTED + "}}\n",
    "identity.token.format": _MINTED + ", format: transaction-token, workload: w}}\n",
    "signing.keys": _MINTED + "}}\nsigning: {keys: {kms: {kind: aws_kms, key: alias/a, max_wait: 3s}}}\n",
    "signing.keys.*.max_wait": _MINTED + "}}\nsigning: {keys: {kms: {kind: aws_kms, key: alias/a, max_wait: 4s}}}\n",
    "identity.token.exchange": _EXCHANGED % "1s",
    "identity.token.exchange.max_wait": _EXCHANGED % "4s",
}


@pytest.mark.parametrize("path", _TOLD)
def test_what_envoy_must_be_told(path: str) -> None:
    """A change of a marked key is one of what is printed for Envoy."""
    text = _TOLD[path] if _TOLD[path].startswith("version") else _MINIMAL + _TOLD[path]
    assert derive(parse(text, file=path)) != derive(parse(_MINIMAL, file="minimal"))


def test_envoy_is_told_of_nothing_else() -> None:
    """The marks are on those keys, and no example of another key changes what is printed for Envoy."""
    marked = {path for path, (_, what) in rows().items() if "*Envoy.*" in what}
    assert marked == ENVOY_DEPENDS_ON == _TOLD.keys()
    before = derive(parse(_MINIMAL, file="minimal"))
    asked = derive(parse(_AROUND["issuers.*.introspection"].replace(", HERE", ""), file="asked"))
    for path, text in examples():
        if path not in marked:
            assert derive(parse(text, file=path)) == (asked if ".introspection." in path else before)


def test_generator_shows_what_is_in_the_sample() -> None:
    """Another sample gives other examples: they are read from it, comments included."""
    sample = SAMPLE.read_text(encoding="utf-8")
    assert "`audiences: [orders-api]`" in write_reference(sample)
    assert "`audiences: [another]`" in write_reference(
        sample.replace("audiences: [orders-api]", "audiences: [another]")
    )


CHANGES: Final = {
    "server.drain": ("drain: 4s", "drain: 3s"),
    "admin": ("listen: 127.0.0.1:", "listen: localhost:"),
    "telemetry.traces.exporter": ("telemetry:\n", "telemetry:\n  traces: {exporter: console}\n"),
    "issuers.*.required": ("required: true", "required: false"),
    "rules": ("allow: public", "allow: deny"),
    "telemetry.decisions": ("decisions: all", "decisions: none"),
}


def test_fixed_keys_are_keys() -> None:
    """Each name in RESTART_REQUIRED is a key of the model, and each change below is of a key on either side."""
    config = parse(_MINIMAL, file="authz.yaml")
    assert all(list(select(config, name)) for name in RESTART_REQUIRED)
    assert {name.partition(".")[0] for name in RESTART_REQUIRED} <= Config.model_fields.keys()


@pytest.mark.parametrize("path", CHANGES)
def test_what_waits_for_the_next_start(path: str) -> None:
    """A running sidecar that takes up a change of a marked key says that it waits; of another key it does not."""
    marked = any(path == name or path.startswith(f"{name}.") for name in RESTART_REQUIRED)
    with FakeIdp() as idp, short_folder() as folder, running(folder, issuer("a", idp)) as sidecar:
        sidecar.await_ready()
        file = sidecar.sidecar.config_file
        before = file.read_text()
        file.write_text(before.replace(*CHANGES[path], 1))
        assert file.read_text() != before
        sidecar.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in sidecar.process.log.read_text())
        if marked:
            wait_until(lambda: "take effect at the next start" in sidecar.process.log.read_text())
        else:
            sidecar.send_signal(signal.SIGHUP)
            wait_until(lambda: sidecar.process.log.read_text().count("configuration reloaded") > 1)
            assert "take effect at the next start" not in sidecar.process.log.read_text()
