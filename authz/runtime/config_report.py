"""The configuration in use as JSON data for the console, without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import yaml

from authz.admin.console.configuration import SIZE
from authz.admin.console.page import start_of
from authz.config.model import Config
from authz.config.problems import Problem, render_path
from authz.config.section import Section
from authz.config.select import select
from authz.runtime.active_config import ActiveConfig
from authz.tooling.envoy_config.bootstrap import fragments, write
from authz.tooling.envoy_config.derive import derive, notes

MAX_WARNINGS: Final = 1_000
_HIDDEN: Final = "(not shown)"
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's takes a fifth of the time


def describe_config(active: ActiveConfig, query: Mapping[str, str]) -> dict[str, object]:
    """Describe the configuration, with some rules and issuers from the positions in *query* on."""
    config, rejected = active.config, active.rejected
    rules, issuers = (start_of(query, kind) for kind in ("rules", "issuers"))
    risky = {render_path(problem.path): problem for problem in active.warnings if "insecure" in problem.path}
    return {
        "file": str(active.file),
        "loaded_at": _instant(active.loaded_at),
        "digest": active.digest,
        "rejected": None if rejected is None else {"at": _instant(rejected.at), "text": rejected.text},
        "needs_restart": list(_differences(active)),
        "insecure": [{"path": path, "risk": problem.message} for path, problem in risky.items()],
        "warnings": [_warning(problem) for problem in active.warnings[:MAX_WARNINGS] if "insecure" not in problem.path],
        "rules": [{"name": rule.name, "text": _write(rule)} for rule in config.rules[rules : rules + SIZE]],
        "rules_total": len(config.rules),
        "issuers": [
            {"name": name, "text": _write(section)}
            for name, section in list(config.issuers.items())[issuers : issuers + SIZE]
        ],
        "issuers_total": len(config.issuers),
        "rest": _write_rest(active),
    }


def describe_envoy(config: Config) -> str:
    """Return what `authz envoy-config` prints."""
    return write(fragments(derive(config)), notes(config))


def _differences(active: ActiveConfig) -> Iterator[dict[str, str]]:
    """Yield the values that differ below the keys that take effect at the next start."""
    running, config = active.started_with, active.config
    for name in active.restart_required:
        for (path, old), (_, new) in zip(select(running, name), select(config, name), strict=True):
            before, after = (_data(value) for value in (old, new))
            for below in sorted(before.keys() | after.keys()):
                if before.get(below) != after.get(below):
                    yield {
                        "path": f"{render_path(path)}{below}",
                        "running": _show(before.get(below)),
                        "file": _show(after.get(below)),
                    }


def _data(value: object, path: str = "") -> dict[str, Any]:
    """Return the scalars of *value* by their paths below it."""
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return {
            path_below: scalar
            for key, inner in value.items()
            for path_below, scalar in _data(inner, f"{path}.{key}").items()
        }
    return {path: value}


def _show(value: object) -> str:
    return "(absent)" if value is None else str(value)


def _warning(problem: Problem) -> dict[str, str]:
    hint = f" ({problem.hint})" if problem.hint else ""
    return {"path": render_path(problem.path), "message": f"{problem.message}{hint}"}


def _write_rest(active: ActiveConfig) -> str:
    """Return all but rules and issuers as YAML; for keys that need a restart, the running values."""
    data = active.config.model_dump(mode="json", exclude={"rules", "issuers"})
    started_with = active.started_with.model_dump(mode="json", exclude={"rules", "issuers"})
    for name in active.restart_required:
        _copy(started_with, data, name.split("."))
    for header in data["identity"]["headers"].values():
        if header.get("value") is not None:
            header["value"] = _HIDDEN  # it may be a secret by which the upstream authenticates this gateway
    return _dump(data)


def _copy(source: dict[str, Any], target: dict[str, Any], path: Sequence[str]) -> None:
    *above, last = path
    for key in above:
        source, target = source[key], target[key]
    target[last] = source[last]


def _write(section: Section) -> str:
    return _dump(section.model_dump(mode="json", exclude_none=True))


def _dump(data: object) -> str:
    return str(yaml.dump(data, Dumper=_DUMPER, sort_keys=False, default_flow_style=None, width=120))


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
