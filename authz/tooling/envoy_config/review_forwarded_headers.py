"""Review: headers by which a client claims another host, path or method, and that reach the upstream."""

from __future__ import annotations

from collections.abc import Iterator

from authz.tooling.envoy_config.context import Context, Location
from authz.tooling.envoy_config.forwarded_headers import FORWARDED_HEADERS
from authz.tooling.envoy_config.reading import Node
from authz.tooling.envoy_config.review_bypasses import removed_by_early_mutations, without_rejected


def forwarded_headers_pass(context: Context) -> Iterator[Location]:
    """Yield each checked connection manager by which such headers reach an upstream, with their names."""
    wanted = frozenset(FORWARDED_HEADERS) - context.requirements.identity - frozenset(context.requirements.read)
    for manager, _ in context.protected_managers:
        left = without_rejected(manager.node, wanted) - removed_by_early_mutations(manager.node, wanted)
        passing = {
            name
            for route in manager.routes
            for name in left - {removed.text.lower() for level in route.levels for removed in _removed_by(level)}
        }
        if passing:
            yield Location(manager.node, ", ".join(name for name in FORWARDED_HEADERS if name in passing))


def _removed_by(level: Node) -> Iterator[Node]:
    yield from level.get("request_headers_to_remove").children()
