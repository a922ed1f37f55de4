"""Settings of the filter itself that hide something from the sidecar, or make less of its answer."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from authz.tooling.envoy_config.context import Scene, Spot
from authz.tooling.envoy_config.reading import Node, fits, matches

DEFAULT_TIMEOUT_SECONDS = 0.2
MAX_BODY_BYTES = 2 * 1024 * 1024  # half of what the sidecar takes as one message
_ROUTING = frozenset({"host", ":authority", ":scheme", ":method"})


def error_status(scene: Scene) -> Iterator[Spot]:
    """An error that is told as success."""
    for _, asking in scene.fronts:
        code = asking.config.get("status_on_error.code")
        if code.there and _http_status(code) < HTTPStatus.BAD_REQUEST:
            yield Spot(code, str(code.value))


def over_http(scene: Scene) -> Iterator[Spot]:
    """The sidecar speaks gRPC only."""
    for _, asking in scene.fronts:
        if (service := asking.config.get("http_service")).there:
            yield Spot(service)


def timeout_short(scene: Scene) -> Iterator[Spot]:
    """Envoy gives up while the sidecar may still wait for a key."""
    for _, asking in scene.fronts:
        timeout = asking.config.get("grpc_service.timeout")
        seconds = timeout.seconds(DEFAULT_TIMEOUT_SECONDS)
        if 0 < seconds * 1000 < scene.needs.wait_ms:
            said = "" if timeout.there else ", Envoy's default"
            yield Spot(timeout, f"{seconds:g}s{said}; the sidecar may take {scene.needs.wait_ms} ms")


def body_sent(scene: Scene) -> Iterator[Spot]:
    """Bodies are held back until they are whole, and nobody reads them."""
    for _, asking in scene.fronts:
        body = asking.config.get("with_request_body")
        if body.there and body.get("max_request_bytes").number(0) <= MAX_BODY_BYTES:
            yield Spot(body)


def body_too_long(scene: Scene) -> Iterator[Spot]:
    """A message that the sidecar cannot take is an error, and not a decision."""
    for _, asking in scene.fronts:
        limit = asking.config.get("with_request_body.max_request_bytes")
        if limit.number(0) > MAX_BODY_BYTES:
            yield Spot(limit, f"{limit.number(0):.0f}; at most {MAX_BODY_BYTES}")


def headers_hidden(scene: Scene) -> Iterator[Spot]:
    """Headers that the sidecar reads, and is not shown."""
    for _, asking in scene.fronts:
        allowed, hidden = asking.config.get("allowed_headers"), asking.config.get("disallowed_headers")
        unseen = [name for name in scene.needs.read if allowed.there and not _any_matches(allowed, name)]
        if unseen:
            yield Spot(allowed, ", ".join(unseen))
        taken = [name for name in scene.needs.read if _any_matches(hidden, name)]
        if taken:
            yield Spot(hidden, ", ".join(taken))


def mutations_refused(scene: Scene) -> Iterator[Spot]:
    """Headers that the sidecar sets or removes, and Envoy leaves as the client sent them."""
    for _, asking in scene.fronts:
        rules = asking.config.get("decoder_header_mutation_rules")
        refused = [name for name in scene.needs.written if rules.there and not _may_be_written(rules, name)]
        if refused:
            yield Spot(rules, ", ".join(refused))


def elsewhere(scene: Scene) -> Iterator[Spot]:
    """A route that asks another service."""
    for manager, asking in scene.fronts:
        told = set()
        for route in manager.routes:
            for settings in route.settings(asking.name):
                for way in ("check_settings.grpc_service", "check_settings.http_service"):
                    service = settings.get(way)
                    if service.there and service.path not in told:
                        told.add(service.path)
                        yield Spot(service)


def _http_status(code: Node) -> int:
    """Read a status, written as a number or as Envoy's word for it, such as ServiceUnavailable."""
    words = {status.phrase.replace(" ", "").replace("-", "").lower(): int(status) for status in HTTPStatus}
    return int(code.number(words.get(code.text.lower(), HTTPStatus.INTERNAL_SERVER_ERROR)))


def _any_matches(matchers: Node, name: str) -> bool:
    return any(matches(matcher, name) for matcher in matchers.get("patterns").each())


def _may_be_written(rules: Node, name: str) -> bool:
    """Judge as `envoy.config.common.mutation_rules.v3.HeaderMutationRules` says."""
    refused, allowed = rules.get("disallow_expression.regex"), rules.get("allow_expression.regex")
    if refused.there and fits(refused, name):
        return False
    if allowed.there and fits(allowed, name):
        return True
    if rules.get("disallow_all").is_true or (name in _ROUTING and not rules.get("allow_all_routing").is_true):
        return False
    return not name.startswith("x-envoy-") or rules.get("allow_envoy").is_true
