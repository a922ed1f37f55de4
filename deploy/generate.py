"""Write what follows from something else, or with `--check` say what is out of date.

1. The charts' values.schema.json: `definitions` of the library's from `authz schema`, every `description` from the
   comments of values.yaml.
2. deploy/observability: the alerts with their default thresholds, and the page of their runbooks, from the chart's.
3. deploy/build.lock, the tools that build the wheel, from requirements.lock.
4. The plain Envoy bootstrap, and that of the kustomize example, from the chart (needs `make .tools/helm`).
5. The keys in authz/config/REFERENCE.md, from the model and the examples in tests/data/config.yaml.
6. The list of statuses in authz/core/REASONS.md, from authz/core/reasons.py.
7. The list of upstreams in authz/core/RULES.md, from authz/tooling/upstreams.py.
"""

# ruff: noqa: INP001 - a program, and no part of a package
from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from authz.config.reference import write_reference
from authz.config.schema import json_schema
from authz.core.reasons import WIRE_STATUS, Reason, WireStatus
from authz.tooling.upstreams import write_list

DEPLOY: Final = Path(__file__).resolve().parent
ROOT: Final = DEPLOY.parent
OBSERVABILITY: Final = DEPLOY / "observability"
CHARTS: Final = DEPLOY / "charts"
SIDECAR: Final = CHARTS / "authz-sidecar"
ALERTS: Final = SIDECAR / "files/alerts.yaml"
REFERENCE: Final = ROOT / "authz/config/REFERENCE.md"
REASONS: Final = ROOT / "authz/core/REASONS.md"
RULES: Final = ROOT / "authz/core/RULES.md"
HELM: Final = ROOT / ".tools/helm/helm4"
BUILD_TOOLS: Final = frozenset(
    """
    hatchling packaging pathspec pluggy tomlkit trove-classifiers
    ast-serialize librt mypy mypy-extensions setuptools typing-extensions
    """.split()  # noqa: SIM905 - the second line is what compiles
)

_KEY: Final = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z0-9]+):(?: (?P<value>.*))?$")
_LABEL: Final = re.compile(r"{{ \$(?:labels\.)?(\w+).*? }}")
_UNSET: Final = re.compile(r"^(?P<indent> *)# (?P<key>[A-Za-z0-9]+):$")


def schema(chart: Path) -> str:
    """Return a chart's schema of values with its descriptions; the library's has the sidecar's own schema in it."""
    written: dict[str, Any] = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    for path, what in meanings(written, chart / "values.yaml").items():
        *above, name = path
        known = written["properties"]
        for step in above:
            known = known[step]["properties"]
        known[name] = {**known[name], "description": what}
    if chart == SIDECAR:
        written["properties"]["prometheusRule"]["properties"]["alerts"] |= settings_of_alerts()
        config = json_schema()
        config.pop("$schema")
        definitions = config.pop("definitions")
        written = {**written, "definitions": {"Config": config, **definitions}}
    return json.dumps(written, indent=2) + "\n"


def meanings(schema: dict[str, Any], values: Path) -> dict[tuple[str, ...], str]:
    """Return descriptions by path; keys of a mapping that takes any are described at the mapping itself."""
    found: dict[tuple[str, ...], str] = {}
    for key, what in describe(values):
        steps, known, depth = tuple(key.split(".")), schema, 0
        while depth < len(steps) and "properties" in known:
            known, depth = known["properties"][steps[depth]], depth + 1
        path, rest = steps[:depth], steps[depth:]
        meaning = f"`{'.'.join(rest)}`: {what}" if rest else what
        found[path] = f"{found[path]}. {meaning}" if path in found else meaning
    return found


def settings_of_alerts() -> dict[str, Any]:
    """Return the schema of what the chart's values may change of each alert."""
    number = {"type": ["number", "string"], "pattern": "^[0-9]+([.][0-9]+)?$"}  # Helm's --set makes text of 0.3
    named: dict[str, Any] = {}
    for alert in alerts():
        known: dict[str, Any] = {
            "enabled": {"type": "boolean", "description": "`false`: leave this alert out"},
            "for": {"type": "string", "pattern": "^[0-9]+(s|m|h)$", "description": f"Default: {alert['for']}"},
            "severity": {"type": "string", "description": f"Default: {alert['labels']['severity']}"},
        }
        if thresholds := alert.get("thresholds"):
            bounds = {name: {**number, "description": f"Default: {value}"} for name, value in thresholds.items()}
            known["thresholds"] = {"type": "object", "additionalProperties": False, "properties": bounds}
        named[alert["alert"]] = {"type": "object", "additionalProperties": False, "properties": known}
    return {"additionalProperties": False, "properties": named}


def alerts() -> list[dict[str, Any]]:
    """Return the alerts as the chart has them, with thresholds."""
    rules: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
    return rules


def plain_alerts() -> str:
    """Return the alerts for a Prometheus without the chart: with the thresholds in their places."""
    _, *blocks = re.split(r"(?=^      - alert: )", ALERTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    head = (
        "# What a person should look at, as Prometheus rules; `runbook` says what to do. Made by deploy/generate.py\n"
        "# of the chart's, where thresholds are values. The labels namespace and pod are of a monitor; without them\n"
        "# each alert speaks of the whole job.\ngroups:\n  - name: authz\n    rules:\n"
    )
    return head + "".join(
        fill(re.sub(r"^ +thresholds: .*\n", "", block, flags=re.MULTILINE), alert)
        for block, alert in zip(blocks, alerts(), strict=True)
    )


def fill(text: str, alert: dict[str, Any]) -> str:
    """Put the default thresholds into a text."""
    for name, value in alert.get("thresholds", {}).items():
        text = text.replace(f"${{{name}}}", str(value))
    return text


def runbooks() -> str:
    """Return the page that `runbook_url` of each alert points at; what the alert itself says is not repeated."""
    head = "# Runbooks\n\nFor operators: what to do when an alert fires. Made by deploy/generate.py from the alerts."
    parts = [head]
    for alert in alerts():
        text = fill(alert["annotations"]["runbook"], alert).strip()
        text = _LABEL.sub(r"*\1*", text)
        parts.append(f"## {alert['alert']}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def reference() -> str:
    """Return the reference of the configuration with its keys regenerated."""
    sample = (ROOT / "tests/data/config.yaml").read_text(encoding="utf-8")
    return renew(REFERENCE.read_text(encoding="utf-8"), "keys", write_reference(sample))


def reasons() -> str:
    """Return the catalogue of reasons with its list regenerated: what each means on the wire."""
    alike: dict[WireStatus, list[str]] = {}
    for reason in Reason:
        alike.setdefault(WIRE_STATUS[reason], []).append(f"[{reason}](#{reason})")
    rows = []
    for wire, links in alike.items():
        challenge = f', `error="{wire.error}"`' if wire.error else ", no `error`"
        status = "allowed" if wire.code == 0 else f"{wire.http} (gRPC {wire.grpc}){challenge if wire.challenge else ''}"
        rows.append(f"- {status}: {', '.join(links)}")
    return renew(REASONS.read_text(encoding="utf-8"), "list", "\n".join([*rows, ""]))


def upstreams() -> str:
    """Return the page of the rules with its list of upstreams made again."""
    return renew(RULES.read_text(encoding="utf-8"), "upstreams", write_list())


def renew(page: str, name: str, text: str) -> str:
    """Put *text* between the two marks of that name. Raises ValueError for a page without them."""
    begin, end = f"<!-- {name}: made by deploy/generate.py -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"no marks for {name}")
    return f"{before}{begin}{text}{end}{after}"


def describe(values: Path) -> Iterator[tuple[str, str]]:
    """Yield key and description of every documented value. Raises ValueError for one without description."""
    path: list[str] = []
    what = ""
    for line in values.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("# -- "):
            what = line.lstrip().removeprefix("# -- ")
        match = _KEY.match(line) or (_UNSET.match(line) if what else None)
        if match is None:
            continue
        if match.re is _UNSET:
            yield match["key"], what
            what = ""
            continue
        depth = len(match["indent"]) // 2
        path = [*path[:depth], match["key"]]
        value = match["value"]
        if what:
            yield ".".join(path), what
        elif value:
            raise ValueError(f"{values}: {'.'.join(path)} has no description")
        what = ""


def build_lock() -> str:
    """Return the pins and hashes of the build tools, as requirements.lock has them."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^(([a-z0-9-]+)==.*(?:\n    .*)*)", text, flags=re.MULTILINE)
    chosen = [pin for pin, name in pins if name in BUILD_TOOLS]
    return (
        "# What builds the wheel: a part of requirements.lock, made by deploy/generate.py\n" + "\n".join(chosen) + "\n"
    )


def envoy() -> str:
    """Return the commented bootstrap that the application chart renders for its example."""
    with tempfile.TemporaryDirectory() as folder:
        charts = Path(shutil.copytree(CHARTS, Path(folder) / "charts"))
        helm(charts, "dependency", "build", "--skip-refresh", str(charts / "authz"))
        values = DEPLOY / "envoy/values.yaml"
        rendered = helm(
            charts, "template", "orders", str(charts / "authz"), "-f", str(values), "-s", "templates/config.yaml"
        )
    block = rendered.partition("  envoy.yaml: |\n")[2]
    lines = [line.removeprefix("    ") for line in block.splitlines()]
    head = "# Made by deploy/generate.py from the chart authz and deploy/envoy/values.yaml.\n"
    return head + "\n".join(lines).rstrip() + "\n"


def helm(folder: Path, *arguments: str) -> str:
    """Run Helm in *folder*, and return what it prints."""
    argv = [str(HELM), *arguments]
    return subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own words


def files() -> Iterator[tuple[Path, str]]:
    """Yield each file that is made, and what it should hold."""
    for chart in (SIDECAR, CHARTS / "authz", CHARTS / "authz-injection"):
        yield chart / "values.schema.json", schema(chart)
    yield OBSERVABILITY / "alerts.yaml", plain_alerts()
    yield OBSERVABILITY / "RUNBOOKS.md", runbooks()
    yield DEPLOY / "build.lock", build_lock()
    yield REFERENCE, reference()
    yield REASONS, reasons()
    yield RULES, upstreams()
    if HELM.exists():
        bootstrap = envoy()
        yield DEPLOY / "envoy/envoy.yaml", bootstrap
        yield DEPLOY / "kustomize/example/envoy.yaml", bootstrap  # kustomize reads nothing outside of its folder


def main() -> None:
    """Write all files, or with `--check` exit 1 where one is out of date."""
    stale = [(path, text) for path, text in files() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        sys.exit("\n".join(f"{path} is out of date: run deploy/generate.py" for path, _ in stale) or 0)
    for path, text in stale:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
