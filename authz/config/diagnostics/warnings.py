"""Warnings about a valid configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.config.build import build_resource, build_rules
from authz.config.build_issuers import inline_keys
from authz.config.checks.dpop import has_shared_nonces
from authz.config.diagnostics.ambiguous_subjects import find_ambiguous_subjects
from authz.config.diagnostics.overlaps import find_overlaps
from authz.config.diagnostics.pdps import find_pdp_mistakes
from authz.config.diagnostics.unused_keys import describe_unused
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote
from authz.config.quantity import format_duration
from authz.config.rules import Match
from authz.config.select import select
from authz.config.settings import SETTINGS
from authz.core.dpop import Possession
from authz.core.resource_metadata import METHODS
from authz.core.snapshot import Unavailable

_RISKS: Final = {path: setting.risk for path, setting in SETTINGS.items() if setting.risk}
# Envoy's `max_headers_count`, by default 100, includes our headers and about eight of its own, but not the names to
# remove. A browser behind two proxies sends about forty headers.
_ENVOY_MAX_HEADERS: Final = 100
_ENVOY_OWN_HEADERS: Final = 8
MAX_HEADERS_WITHOUT_WARNING: Final = 40
_FAILS_OPEN: Final = (
    "while keys are unavailable, an Envoy with failure_mode_allow forwards requests unchanged, "
    "including identity headers that a client sent"
)


def warnings(config: Config) -> list[Problem]:
    """Return a warning for each insecure option in use, and for settings that contradict each other."""
    return [
        *_risks(config),
        *_fails_open(config),
        *_unusable_keys(config),
        *_unmatched_blocks(config),
        *_too_many_headers(config),
        *_stale_before_refresh(config),
        *_shadowed_by_metadata(config),
        *_proofs_of_each_process(config),
        *_nonces_of_each_replica(config),
        *_failures_of_each_worker(config),
        *_forgotten_logouts(config),
        *_signs_nothing(config),
        *_forgets_its_key(config),
        *_not_exchanged(config),
        *find_overlaps(build_rules(config)),
        *find_ambiguous_subjects(config),
        *find_pdp_mistakes(config),
    ]


def count_insecure(config: Config) -> int:
    """Count the options below `insecure` that are in use."""
    return sum("insecure" in risk.path for risk in _risks(config))


def _risks(config: Config) -> Iterator[Problem]:
    for pattern, risk in _RISKS.items():
        for path, value in select(config, pattern):
            if value:
                yield Problem(path=path, message=risk)


def _unusable_keys(config: Config) -> Iterator[Problem]:
    for name, issuer in config.issuers.items():
        keys = inline_keys(issuer)
        if keys is None:
            continue
        path = ("issuers", name, "jwks")
        yield from (Problem(path=path, message=message) for message in describe_unused(keys, issuer))
        if not keys.keys and not keys.rejected:
            yield Problem(path=path, message="contains no key: every token of this issuer is rejected")


def _unmatched_blocks(config: Config) -> Iterator[Problem]:
    """Report blocked keys that are not in the set: they may be blocked in advance, or misspelt."""
    for name, issuer in config.issuers.items():
        keys = inline_keys(issuer)
        for blocked in keys.unmatched_blocks if keys is not None else ():
            path = ("issuers", name, "blocked_keys", issuer.blocked_keys.index(blocked))
            yield Problem(path=path, message=f"{quote(blocked)} is not the kid or thumbprint of a key in jwks")


def _too_many_headers(config: Config) -> Iterator[Problem]:
    """Report too many identity headers: Envoy answers 500 if a request has too many headers with ours."""
    count = len(config.identity.headers)
    if count > MAX_HEADERS_WITHOUT_WARNING:
        left = _ENVOY_MAX_HEADERS - _ENVOY_OWN_HEADERS - count
        message = f"leaves a client {left} headers, with Envoy's default limit of {_ENVOY_MAX_HEADERS}"
        hint = "above the limit Envoy answers 500; raise its common_http_protocol_options.max_headers_count"
        yield Problem(path=("identity", "headers"), message=message, hint=hint)


def _fails_open(config: Config) -> Iterator[Problem]:
    if config.responses.unavailable is Unavailable.ERROR:
        hint = "remove those headers in Envoy before the filter"
        yield Problem(path=("responses", "unavailable"), message=_FAILS_OPEN, hint=hint)


def _stale_before_refresh(config: Config) -> Iterator[Problem]:
    for name, issuer in config.issuers.items():
        fetch = issuer.fetch
        fetched = not {"jwks", "jwks_file"} & set(issuer.key_sources)
        if fetched and fetch.max_stale < fetch.interval:
            message = f"keys are dropped before they are refreshed after {format_duration(fetch.interval)}"
            yield Problem(path=("issuers", name, "fetch", "max_stale"), message=message)


def _proofs_of_each_process(config: Config) -> Iterator[Problem]:
    """Report what processes do not share: the proofs that were used."""
    bound = [name for name, issuer in config.issuers.items() if issuer.dpop is not Possession.OFF]
    if config.shared_state is None and bound:
        workers = config.server.workers
        again = f"{workers} times, and so often" if workers > 1 else "once"
        path: KeyPath = ("server", "workers") if workers > 1 else ("issuers", bound[0], "dpop")
        message = f"a proof (DPoP) can be used {again} again at each replica and after a restart: processes share none"
        yield Problem(path=path, message=message, hint="set shared_state")


def _nonces_of_each_replica(config: Config) -> Iterator[Problem]:
    """Report replicas that refuse each other's nonces: a client sends the last one that it got to any of them."""
    bound = any(issuer.dpop is not Possession.OFF for issuer in config.issuers.values())
    if bound and config.shared_state is not None and not has_shared_nonces(config):
        message = "is not set: replicas share proofs (DPoP), and each refuses the nonces of the others"
        hint = "set it, or revocation.shared.secret_file, to the same for all replicas"
        yield Problem(path=("dpop", "nonce_secret_file"), message=message, hint=hint)


def _failures_of_each_worker(config: Config) -> Iterator[Problem]:
    """Report what workers do not share: the failures of networks."""
    workers, throttle = config.server.workers, config.throttle
    if workers > 1 and throttle is not None:
        message = f"a network can fail {workers * throttle.failures} times: each worker counts for itself"
        yield Problem(path=("throttle", "failures"), message=message)


def _forgotten_logouts(config: Config) -> Iterator[Problem]:
    """Report what makes a logout end too early: a restart, or tokens that live longer than it is remembered."""
    max_lifetime = config.revocation.max_lifetime
    if config.revocation.transmitters and config.revocation.file is None:
        message = "their events are forgotten at a restart, for there is no revocation.file"
        yield Problem(path=("revocation", "transmitters"), message=message)
    for name, issuer in config.issuers.items():
        if issuer.logout is None:
            continue
        if config.revocation.file is None:
            message = "logouts are forgotten at a restart, for there is no revocation.file"
            yield Problem(path=("issuers", name, "logout"), message=message)
        if issuer.max_lifetime is None:
            message = f"tokens may live longer than a logout is remembered, {format_duration(max_lifetime)}"
            hint = "bound them by max_lifetime, and remember logouts for as long (revocation.max_lifetime)"
            yield Problem(path=("issuers", name, "logout"), message=message, hint=hint)
        elif issuer.max_lifetime > max_lifetime:
            message = f"tokens live longer than a logout is remembered, {format_duration(max_lifetime)}"
            yield Problem(path=("issuers", name, "max_lifetime"), message=message, hint="raise revocation.max_lifetime")


def _signs_nothing(config: Config) -> Iterator[Problem]:
    """Report settings of a token for the upstream without one, and those that keys in memory do not have."""
    if config.identity.minted is not None:
        for index, (name, key) in enumerate(config.signing.keys.items() if config.signing.generates else ()):
            if key.kid is not None:
                message = "has no effect: each generated key has its thumbprint as kid"
                yield Problem(path=("signing", "keys", name, "kid"), message=message)
            if index:
                message = "has no effect: of several keys of kind memory one is generated"
                yield Problem(path=("signing", "keys", name), message=message)
        return
    message = "has no effect without identity.token: nothing is signed"
    for index, rule in enumerate(config.rules):
        if rule.upstream_audience is not None and config.identity.token is None:
            yield Problem(path=("rules", index, "upstream_audience"), message=message)
    if config.signing.publish.url is not None:
        yield Problem(path=("signing", "publish", "url"), message=message)


def _forgets_its_key(config: Config) -> Iterator[Problem]:
    """Report a key that readers elsewhere do not know after a restart: it signs at once, because nothing else can."""
    signing = config.signing
    if config.identity.minted is None or signing.publish.url is None or not signing.generates:
        return
    if not signing.rotation.is_kept:
        age = format_duration(signing.publish.max_age)
        message = f"a restart begins with a new key: for {age}, readers reject its tokens that fetch only at intervals"
        hint = "set signing.rotation.shared_secret_file or state_file, or list keys of another kind"
        yield Problem(path=("signing", "publish", "url"), message=message, hint=hint)


def _not_exchanged(config: Config) -> Iterator[Problem]:
    """Report issuers whose callers are denied, because their tokens are not sent to another issuer's server."""
    exchange = config.identity.exchange
    if exchange is None:
        return
    others = [name for name in config.issuers if name not in (exchange.subjects or (exchange.issuer,))]
    if others:
        message = f"callers of {', '.join(others)} are denied, because their tokens are not exchanged"
        hint = "list them in subjects if that server may see their tokens"
        yield Problem(path=("identity", "token", "exchange"), message=message, hint=hint)


def _shadowed_by_metadata(config: Config) -> Iterator[Problem]:
    """Report rules for the path of the metadata document: they do not apply to GET and HEAD."""
    resource = build_resource(config)
    if resource is None:
        return
    for position, rule in enumerate(config.rules):
        match = rule.match or Match()
        for index, path in enumerate(match.templates if match.paths else ()):
            if path.segments in resource.paths and (not match.methods or METHODS.intersection(match.methods)):
                message = "the sidecar itself answers GET and HEAD here, before any rule (resource)"
                yield Problem(path=("rules", position, "match", "paths", index), message=message)
