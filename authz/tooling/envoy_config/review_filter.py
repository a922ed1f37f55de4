"""Settings of the filter itself that hide something from the sidecar, or weaken its answer."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from authz.tooling.envoy_config.context import Context, Location
from authz.tooling.envoy_config.reading import Node, fits, matches

DEFAULT_TIMEOUT_SECONDS = 0.2
MAX_BODY_BYTES = 2 * 1024 * 1024  # half of the largest message that the sidecar accepts
_ROUTING = frozenset({"host", ":authority", ":scheme", ":method"})


def error_status(context: Context) -> Iterator[Location]:
    """An error that is reported as success."""
    for _, asking in context.protected_managers:
        code = asking.config.get("status_on_error.code")
        if code.there and _http_status(code) < HTTPStatus.BAD_REQUEST:
            yield Location(code, str(code.value))


def over_http(context: Context) -> Iterator[Location]:
    """The sidecar speaks gRPC only."""
    for _, asking in context.protected_managers:
        if (service := asking.config.get("http_service")).there:
            yield Location(service)


def timeout_short(context: Context) -> Iterator[Location]:
    """Envoy gives up while the sidecar may still wait for a key."""
    for _, asking in context.protected_managers:
        if asking.config.get("http_service").there:
            continue  # which is found to be wrong itself
        timeout = asking.config.get("grpc_service.timeout")
        seconds = timeout.seconds(DEFAULT_TIMEOUT_SECONDS)
        if 0 < seconds * 1000 < context.requirements.wait_ms:
            said = "" if timeout.there else ", Envoy's default"
            yield Location(timeout, f"{seconds:g}s{said}; the sidecar may take {context.requirements.wait_ms} ms")


def body_sent(context: Context) -> Iterator[Location]:
    """Bodies are buffered until they are complete, and are not read."""
    for _, asking in context.protected_managers:
        body = asking.config.get("with_request_body")
        if body.there and body.get("max_request_bytes").number(0) <= MAX_BODY_BYTES:
            yield Location(body)


def body_too_long(context: Context) -> Iterator[Location]:
    """A message that is too long for the sidecar is an error, and not a decision."""
    for _, asking in context.protected_managers:
        limit = asking.config.get("with_request_body.max_request_bytes")
        if limit.number(0) > MAX_BODY_BYTES:
            yield Location(limit, f"{limit.number(0):.0f}; at most {MAX_BODY_BYTES}")


def headers_hidden(context: Context) -> Iterator[Location]:
    """Headers that the sidecar reads, and does not receive."""
    for _, asking in context.protected_managers:
        allowed, hidden = asking.config.get("allowed_headers"), asking.config.get("disallowed_headers")
        unseen = [name for name in context.requirements.read if allowed.there and not _any_matches(allowed, name)]
        if unseen:
            yield Location(allowed, ", ".join(unseen))
        taken = [name for name in context.requirements.read if _any_matches(hidden, name)]
        if taken:
            yield Location(hidden, ", ".join(taken))


def mutations_refused(context: Context) -> Iterator[Location]:
    """Headers that the sidecar sets or removes, and Envoy leaves as the client sent them."""
    for _, asking in context.protected_managers:
        rules = asking.config.get("decoder_header_mutation_rules")
        refused = [name for name in context.requirements.written if rules.there and not _may_be_written(rules, name)]
        if refused:
            yield Location(rules, ", ".join(refused))


def elsewhere(context: Context) -> Iterator[Location]:
    """A route that calls another service."""
    for manager, asking in context.protected_managers:
        seen = set()
        for route in manager.routes:
            for settings in route.settings(asking.name):
                for way in ("check_settings.grpc_service", "check_settings.http_service"):
                    service = settings.get(way)
                    if service.there and service.path not in seen:
                        seen.add(service.path)
                        yield Location(service)


def _http_status(code: Node) -> int:
    """Read a status, given as a number or as Envoy's name for it, such as ServiceUnavailable."""
    words = {status.phrase.replace(" ", "").replace("-", "").lower(): int(status) for status in HTTPStatus}
    return int(code.number(words.get(code.text.lower(), HTTPStatus.INTERNAL_SERVER_ERROR)))


def _any_matches(matchers: Node, name: str) -> bool:
    return any(matches(matcher, name) for matcher in matchers.get("patterns").each())


def _may_be_written(rules: Node, name: str) -> bool:
    """Evaluate as `envoy.config.common.mutation_rules.v3.HeaderMutationRules` says."""
    refused, allowed = rules.get("disallow_expression.regex"), rules.get("allow_expression.regex")
    if refused.there and fits(refused, name):
        return False
    if allowed.there and fits(allowed, name):
        return True
    if rules.get("disallow_all").is_true or (name in _ROUTING and not rules.get("allow_all_routing").is_true):
        return False
    return not name.startswith("x-envoy-") or rules.get("allow_envoy").is_true
