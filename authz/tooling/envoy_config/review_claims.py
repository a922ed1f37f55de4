"""Review: headers by which a client claims another host, path or method, and that reach the upstream."""

from __future__ import annotations

from collections.abc import Iterator

from authz.tooling.envoy_config.context import Context, Location
from authz.tooling.envoy_config.forwarded_claims import CLAIMS
from authz.tooling.envoy_config.reading import Node, matches
from authz.tooling.envoy_config.review_bypasses import without_refused


def claims_pass(context: Context) -> Iterator[Location]:
    """Yield each checked connection manager by which such headers reach an upstream, with their names."""
    wanted = frozenset(CLAIMS) - context.requirements.identity - frozenset(context.requirements.read)
    for manager, _ in context.protected_managers:
        left = without_refused(manager.node, wanted) - set(_removed_by_early_mutations(manager.node, wanted))
        passing = {
            name
            for route in manager.routes
            for name in left - {removed.text.lower() for level in route.levels for removed in _removed_by(level)}
        }
        if passing:
            yield Location(manager.node, ", ".join(name for name in CLAIMS if name in passing))


def _removed_by(level: Node) -> Iterator[Node]:
    yield from level.get("request_headers_to_remove").each()


def _removed_by_early_mutations(manager: Node, names: frozenset[str]) -> Iterator[str]:
    for extension in manager.get("early_header_mutation_extensions").each():
        for mutation in extension.get("typed_config.mutations").each():
            matcher = mutation.get("remove_on_match.key_matcher")
            yield from (name for name in names if name == mutation.get("remove").text.lower() or matches(matcher, name))
