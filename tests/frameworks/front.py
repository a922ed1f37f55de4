"""A sidecar for each file of rules, and one Envoy in front of every framework, as `authz envoy-config` prints it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner

from authz.cli import main
from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.sidecar import Sidecar
from tests.fakes.waiting import wait_until
from tests.frameworks.requests import PAGE
from tests.frameworks.traffic import Ask, Got, ask_all

PROTOCOLS: Final = ("HTTP/1.1", "HTTP/2")
_ANY_PORT: Final = "127.0.0.1:0"
_TRIES: Final = 2
_MOST_TRIES: Final = 100  # something is wrong then
HEAD: Final = """version: 1
server: {{listen: "unix:{socket}", drain: 200ms}}
admin: {{listen: "{admin}"}}
issuers:
  a: {{issuer: "https://a.test", audiences: [api], jwks: {{keys: [{key}]}}}}
"""
KEY: Final = '{kty: OKP, crv: Ed25519, kid: k, x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'


@dataclass(frozen=True, slots=True)
class Front:
    """Where Envoy listens for each file of rules and each upstream, and the file of each."""

    _doors: Mapping[tuple[str, str], str]
    files: Mapping[str, Path]

    def ask(self, rules: str, upstream: str, asks: Sequence[Ask], protocol: str) -> list[Got]:
        """Send requests through Envoy and the sidecar.

        What one of these two was too slow for is sent again; so is, twice, what the upstream broke off.
        """
        answers = ask_all(self._doors[rules, upstream], asks, protocol)
        tries = 0
        while again := [
            place for place, got in enumerate(answers) if _is_broken(got) or (got.reset and tries < _TRIES)
        ]:
            tries += 1
            assert tries < _MOST_TRIES, asks[again[0]]
            found = ask_all(self._doors[rules, upstream], [asks[place] for place in again], protocol)
            for place, got in zip(again, found, strict=True):
                answers[place] = got
        return answers


def _is_broken(got: Got) -> bool:
    return got.status >= 500 and not got.passed


@contextmanager
def fronting(
    rules: Mapping[str, str], upstreams: Mapping[str, str], folder: Path, doors: Iterable[tuple[str, str]]
) -> Iterator[Front]:
    """Start a sidecar for each of *rules*, YAML by name, and an Envoy that listens for each of *doors*.

    *upstreams* are addresses by name; a door is a name of rules and one of an upstream.
    """
    with ExitStack() as running:
        files = {}
        for name, text in rules.items():
            place = folder / name
            place.mkdir()
            config = HEAD.format(socket=place / "a.sock", admin=_ANY_PORT, key=KEY) + text
            sidecar = Sidecar(config, admin=_ANY_PORT, folder=place)
            sidecar.process.start()
            running.callback(sidecar.process.kill)
            files[name] = sidecar.config_file
        bootstrap = folder / "envoy.json"
        bootstrap.write_text(json.dumps(_join(files, upstreams, doors)), encoding="utf-8")
        envoy = Envoy(bootstrap, folder)
        running.callback(envoy.process.kill)
        envoy.start()
        opened = _opened(envoy)
        for address in opened.values():  # until Envoy has seen that the sidecar is healthy
            wait_until(lambda: ask_all(address, [PAGE.ask], "HTTP/1.1")[0].passed)  # noqa: B023 - called at once
        yield Front(opened, files)


def _opened(envoy: Envoy) -> dict[tuple[str, str], str]:
    """Return where Envoy listens for each door."""
    opened = {}
    for listener in send(f"{envoy.admin_url}/listeners?format=json").json()["listener_statuses"]:
        rules, _, upstream = listener["name"].partition(" ")
        bound = listener["local_address"]["socket_address"]
        opened[rules, upstream] = f"{bound['address']}:{bound['port_value']}"
    return opened


def _join(files: Mapping[str, Path], upstreams: Mapping[str, str], doors: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return one bootstrap of all that are printed, each with names of its own for its listener and clusters."""
    joined: dict[str, Any] = {}
    clusters: dict[str, Any] = {}
    for rules, upstream in doors:
        arguments = ["--bootstrap", "--json", "--listen", _ANY_PORT, "--admin", _ANY_PORT]
        arguments += ["--upstream", upstreams[upstream], "--config", str(files[rules])]
        printed = CliRunner().invoke(main, ["envoy-config", *arguments])
        assert printed.exit_code == 0, printed.output
        text = printed.stdout
        for own, name in (
            ("authz", f"authz-{rules}"),
            ("upstream", f"upstream-{upstream}"),
            ("front", f"{rules} {upstream}"),
        ):
            for key in ("name", "cluster", "cluster_name"):
                text = text.replace(f'"{key}": "{own}"', f'"{key}": "{name}"')
        one = json.loads(text)
        resources = one["static_resources"]
        clusters |= {cluster["name"]: cluster for cluster in resources["clusters"]}
        if joined:
            joined["static_resources"]["listeners"] += resources["listeners"]
        else:
            joined = one
    joined["static_resources"]["clusters"] = list(clusters.values())
    return joined
