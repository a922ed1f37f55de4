"""Settings of the filter itself that hide something from the sidecar, or weaken its answer."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from authz.tooling.envoy_config.context import Context, Location
from authz.tooling.envoy_config.fields import WRAPPER_PER_ROUTE, snake_case, unknown_fields
from authz.tooling.envoy_config.reading import Node, matches, matches_regex

DEFAULT_TIMEOUT_SECONDS = 0.2
MAX_BODY_BYTES = 2 * 1024 * 1024  # half of the largest message that the sidecar accepts
# Fields with user-defined keys: maps, and messages of google.protobuf.Struct.
_FREE_KEYS = frozenset({"json_format", "jsonFormat", "context_extensions", "contextExtensions", "filter_metadata"})
_FREE_KEYS |= {"filterMetadata", "static_layer", "staticLayer", "metadata", "labels"}
_ROUTING = frozenset({"host", ":authority", ":scheme", ":method"})


def error_status(context: Context) -> Iterator[Location]:
    """An error that is reported as success."""
    for _, _, ext_authz in context.checks:
        code = ext_authz.config.get("status_on_error.code")
        if code.exists and _http_status(code) < HTTPStatus.BAD_REQUEST:
            yield Location(code, str(code.value))


def over_http(context: Context) -> Iterator[Location]:
    """The sidecar speaks gRPC only."""
    for _, _, ext_authz in context.checks:
        if (service := ext_authz.config.get("http_service")).exists:
            yield Location(service)


def timeout_short(context: Context) -> Iterator[Location]:
    """Envoy times out while the sidecar may still wait for a key."""
    for _, _, ext_authz in context.checks:
        if not ext_authz.config.get("grpc_service").exists:
            continue  # another finding says that it is wrong, or was not seen
        timeout = ext_authz.config.get("grpc_service.timeout")
        seconds = timeout.seconds(DEFAULT_TIMEOUT_SECONDS)
        if 0 < seconds * 1000 < context.requirements.wait_ms:
            origin = "" if timeout.exists else ", Envoy's default"
            yield Location(timeout, f"{seconds:g}s{origin}; the sidecar may take {context.requirements.wait_ms} ms")


def check_repeated(context: Context) -> Iterator[Location]:
    """A check that Envoy sends again brings a proof of possession that was used."""
    if not context.requirements.proofs:
        return
    for _, _, ext_authz in context.checks:
        for key in ("grpc_service.retry_policy", "grpc_service.envoy_grpc.retry_policy"):
            if (policy := ext_authz.config.get(key)).exists:
                yield Location(policy)


def body_sent(context: Context) -> Iterator[Location]:
    """Bodies are buffered until they are complete, and are not read."""
    for _, _, ext_authz in context.checks:
        body = ext_authz.config.get("with_request_body")
        if body.exists and body.get("max_request_bytes").number(0) <= MAX_BODY_BYTES:
            yield Location(body)


def body_too_long(context: Context) -> Iterator[Location]:
    """A message that is too long for the sidecar is an error, and not a decision."""
    for _, _, ext_authz in context.checks:
        limit = ext_authz.config.get("with_request_body.max_request_bytes")
        if limit.number(0) > MAX_BODY_BYTES:
            yield Location(limit, f"{limit.number(0):.0f}; at most {MAX_BODY_BYTES}")


def headers_hidden(context: Context) -> Iterator[Location]:
    """Headers that the sidecar reads, and does not receive."""
    for _, _, ext_authz in context.checks:
        allowed, hidden = ext_authz.config.get("allowed_headers"), ext_authz.config.get("disallowed_headers")
        unseen = [name for name in context.requirements.read if allowed.exists and not _any_matches(allowed, name)]
        if unseen:
            yield Location(allowed, ", ".join(unseen))
        taken = [name for name in context.requirements.read if _any_matches(hidden, name)]
        if taken:
            yield Location(hidden, ", ".join(taken))


def mutations_refused(context: Context) -> Iterator[Location]:
    """Headers that the sidecar sets or removes, and Envoy leaves as the client sent them."""
    for _, _, ext_authz in context.checks:
        rules = ext_authz.config.get("decoder_header_mutation_rules")
        refused = [name for name in context.requirements.written if rules.exists and not _may_be_written(rules, name)]
        if refused:
            yield Location(rules, ", ".join(refused))


def elsewhere(context: Context) -> Iterator[Location]:
    """A route, or the filters of an upgrade, that ask another service than the sidecar."""
    reported = set()
    for manager, chain, ext_authz in context.checks:
        sidecar_clusters = context.sidecar_clusters or {filter_.cluster for filter_ in manager.main.ext_authz}
        cluster_name = ext_authz.config.get("grpc_service.envoy_grpc.cluster_name")
        if chain.upgrade and ext_authz.cluster not in sidecar_clusters:
            yield Location(cluster_name, f"upgrades to {chain.upgrade} ask {ext_authz.cluster or 'no cluster'}")
        for route in manager.routes:
            for settings in route.overrides(ext_authz.name):
                for key in ("grpc_service", "http_service"):
                    service = settings.get(f"check_settings.{key}")
                    is_sidecar = service.get("envoy_grpc.cluster_name").text in sidecar_clusters
                    if service.exists and not is_sidecar and service.path not in reported:
                        reported.add(service.path)
                        yield Location(service)


def fields_unknown(context: Context) -> Iterator[Location]:
    """Settings that this review does not know, so that it cannot say what they do."""
    reported = set()
    for manager, _, ext_authz in context.checks:
        unknown = [*unknown_fields(ext_authz.node, "HttpFilter"), *unknown_fields(ext_authz.config, "ExtAuthz")]
        for route in manager.routes:
            for settings in route.settings(ext_authz.name):
                message = "FilterConfig" if settings.kind == "FilterConfig" else "ExtAuthzPerRoute"
                if settings.kind in {"", message}:
                    unknown += unknown_fields(settings, message)
            for override in route.overrides(ext_authz.name):
                if override.kind in {"", "ExtAuthzPerRoute"}:
                    unknown += unknown_fields(override, "ExtAuthzPerRoute")
                elif override.kind not in WRAPPER_PER_ROUTE:
                    unknown.append(override.key("@type"))
        for node in unknown:
            if node.path not in reported:
                reported.add(node.path)
                yield Location(node, str(node.path[-1]))


def fields_twice(context: Context) -> Iterator[Location]:
    """A field in both of protobuf's spellings, anywhere: Envoy takes one of the two values, and says nothing."""
    for node in _messages(context.root):
        keys = node.value if isinstance(node.value, dict) else {}
        for key in keys:
            if (twin := snake_case(key)) != key and twin in keys:
                yield Location(node.key(key), f"{twin} and {key}")


def _messages(node: Node) -> Iterator[Node]:
    node = node.unwrapped
    yield node
    for child in node.children():
        if child.path[-1] not in _FREE_KEYS:
            yield from _messages(child)


def _http_status(code: Node) -> int:
    """Read a status, given as a number or as Envoy's name for it, such as ServiceUnavailable."""
    words = {status.phrase.replace(" ", "").replace("-", "").lower(): int(status) for status in HTTPStatus}
    return int(code.number(words.get(code.text.lower(), HTTPStatus.INTERNAL_SERVER_ERROR)))


def _any_matches(matchers: Node, name: str) -> bool:
    return any(matches(matcher, name) for matcher in matchers.get("patterns").children())


def _may_be_written(rules: Node, name: str) -> bool:
    """Evaluate as `envoy.config.common.mutation_rules.v3.HeaderMutationRules` says."""
    refused, allowed = rules.get("disallow_expression.regex"), rules.get("allow_expression.regex")
    if refused.exists and matches_regex(refused, name):
        return False
    if allowed.exists and matches_regex(allowed, name):
        return True
    if rules.get("disallow_all").is_true or (name in _ROUTING and not rules.get("allow_all_routing").is_true):
        return False
    return not name.startswith("x-envoy-") or rules.get("allow_envoy").is_true
