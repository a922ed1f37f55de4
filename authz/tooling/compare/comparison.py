"""Compare two configurations, as they are built for serving."""

from __future__ import annotations

from typing import Final

from authz.config.build import build_snapshot
from authz.config.model import Config
from authz.tooling.compare.effects import Change, Effect
from authz.tooling.compare.envoy import compare_envoys
from authz.tooling.compare.rules import compare_rules
from authz.tooling.compare.settings import compare_settings

_ORDER: Final = tuple(Effect)


def compare(old: Config, new: Config) -> list[Change]:
    """Return what differs in *new*: what breaks and what widens first, and what has no effect last."""
    before, after = (build_snapshot(config).policy for config in (old, new))
    changes = [*compare_rules(before, after), *compare_settings(old, new), *compare_envoys(old, new)]
    return sorted(changes, key=lambda change: (_ORDER.index(change.effect), change.about))
