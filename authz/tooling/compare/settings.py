"""Which settings, rules aside, let through what was refused, or refuse what was let through.

Each key of the model has a judge in JUDGES: whoever adds a key says there what a change of it does. Issuers are
compared by their `iss`, for that is what tokens name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from authz.config.build import inline_keys
from authz.config.issuer import Issuer
from authz.config.model import Config, HeaderValue
from authz.config.problems import quote
from authz.config.quantity import format_duration, format_size
from authz.core.claims import normalize_type
from authz.core.keys import KeySet
from authz.tooling.compare.effects import Change, Effect, all_of, any_listed, at_most

Judge = Callable[[Any, Any], Effect]

_MAX_SHOWN: Final = 8


def _changes(old: object, new: object) -> Effect:
    """Requests are let through as before; what else happens is another matter."""
    return Effect.SAME if old == new else Effect.CHANGES


def _unknown(old: object, new: object) -> Effect:
    """What comes of it is not written here: keys from elsewhere, for one."""
    return Effect.SAME if old == new else Effect.UNKNOWN


def _opens_if_true(old: object, new: object) -> Effect:
    """An option that loosens something while it is set."""
    return Effect.SAME if old == new else Effect.OPENS if new else Effect.CLOSES


def _longest(old: timedelta | None, new: timedelta | None) -> Effect:
    """A duration that bounds what is accepted; None is no bound."""
    return at_most(*(None if value is None else value.total_seconds() for value in (old, new)))


def _types(old: tuple[str, ...], new: tuple[str, ...]) -> Effect:
    return any_listed(map(normalize_type, old), map(normalize_type, new))


def _keys(old: KeySet | None, new: KeySet | None) -> Effect:
    if (old is None) != (new is None):
        return Effect.UNKNOWN  # they come from elsewhere now
    return any_listed(*({key.thumbprint for key in keys.keys} if keys else () for keys in (old, new)))


def _resource(old: object, new: object) -> Effect:
    """The sidecar answers everybody there, before any rule."""
    return (
        Effect.SAME if old == new else Effect.OPENS if old is None else Effect.CLOSES if new is None else Effect.CHANGES
    )


def _headers(old: Mapping[str, HeaderValue], new: Mapping[str, HeaderValue]) -> Effect:
    """A name that is no identity header any more reaches the upstream as the client sent it."""
    names = all_of(old, new)
    return Effect.CHANGES if names is Effect.SAME and old != new else names


JUDGES: Final[Mapping[str, Judge]] = {
    "version": _changes,
    "server.listen": _changes,
    "server.socket_mode": _changes,
    "server.tls.cert_file": _changes,
    "server.tls.key_file": _changes,
    "server.tls.client_ca_file": _unknown,
    "server.workers": _changes,
    "server.threads": _changes,
    "server.max_concurrent": _changes,
    "server.drain": _changes,
    "admin.listen": _changes,
    "issuers.*.issuer": _changes,
    "issuers.*.audiences": any_listed,
    "issuers.*.audience_claim": _unknown,
    "issuers.*.discovery_url": _unknown,
    "issuers.*.jwks_uri": _unknown,
    "issuers.*.jwks": _keys,
    "issuers.*.jwks_file": _unknown,
    "issuers.*.algorithms": any_listed,
    "issuers.*.token_types": _types,
    "issuers.*.required_claims": all_of,
    "issuers.*.leeway": _longest,
    "issuers.*.max_lifetime": _longest,
    "issuers.*.claims": _unknown,
    "issuers.*.blocked_keys": all_of,
    "issuers.*.required": _changes,
    "issuers.*.fetch.timeout": _changes,
    "issuers.*.fetch.interval": _changes,
    "issuers.*.fetch.min_interval": _changes,
    "issuers.*.fetch.max_interval": _changes,
    "issuers.*.fetch.cooldown": _changes,
    "issuers.*.fetch.max_wait": _changes,
    "issuers.*.fetch.max_stale": _longest,
    "issuers.*.fetch.max_bytes": _changes,
    "issuers.*.fetch.max_keys": _changes,
    "issuers.*.fetch.allowed_hosts": any_listed,
    "issuers.*.fetch.allowed_networks": any_listed,
    "issuers.*.fetch.proxy": _unknown,
    "issuers.*.fetch.ca_file": _unknown,
    "issuers.*.fetch.bearer_token_file": _changes,
    "issuers.*.cache_dir": _changes,
    "issuers.*.insecure.http": _opens_if_true,
    "issuers.*.insecure.any_audience": _opens_if_true,
    "issuers.*.insecure.no_expiry": _opens_if_true,
    "token.sources": any_listed,
    "token.max_bytes": at_most,
    "token.forward": _changes,
    "identity.headers": _headers,
    "identity.metadata": _changes,
    "identity.unsafe_values": lambda old, new: _opens_if_true(old == "encode", new == "encode"),
    "responses.realm": _changes,
    "responses.body": _changes,
    "responses.expose_reason": _changes,
    "responses.unavailable": lambda old, new: _opens_if_true(old == "error", new == "error"),
    "resource": _resource,
    "telemetry.traces.exporter": _changes,
    "telemetry.traces.sample_ratio": _changes,
    "telemetry.decisions": _changes,
    "telemetry.max_rule_labels": _changes,
    "telemetry.log_level": _changes,
    "telemetry.log_format": _changes,
    "telemetry.log_client": _changes,
    "insecure.shadow_all": _opens_if_true,
    "insecure.plaintext": _opens_if_true,
    "insecure.query_token": _opens_if_true,
    "insecure.trust_client_traceparent": _opens_if_true,
}
"""A judge for each key of the file, rules aside; `tls` and `resource` may be absent."""

_MEANINGS: Final[Mapping[str, str]] = {
    "identity.headers": "what a client sends under a name that is gone reaches the upstream",
    "issuers.*.audience_claim": "another claim says whom a token is for",
    "issuers.*.claims": "names of rules and headers stand for other claims",
    "issuers.*.fetch.max_stale": "withdrawn keys serve so long while the issuer is down",
    "issuers.*.insecure.any_audience": "tokens for any other service open this one",
    "issuers.*.insecure.http": "whoever controls the network to this issuer controls its keys",
    "issuers.*.insecure.no_expiry": "a token without exp is good for ever",
    "insecure.plaintext": "callers on the network need no certificate",
    "insecure.query_token": "tokens in queries are taken",
    "insecure.shadow_all": "every request is allowed, whatever its judgement",
    "responses.unavailable": "while keys are unavailable, Envoy's failure_mode_allow decides",
    "server.tls.client_ca_file": "whose certificates open the sidecar's door",
}


def compare_settings(old: Config, new: Config) -> Iterator[Change]:
    """Yield a change for each setting, rules aside, that is another."""
    for pattern in JUDGES:
        if not pattern.startswith("issuers."):
            yield from _compare(pattern, pattern, _value(old, pattern), _value(new, pattern))
    before = {issuer.issuer: (name, issuer) for name, issuer in old.issuers.items()}
    after = {issuer.issuer: (name, issuer) for name, issuer in new.issuers.items()}
    for iss in before.keys() | after.keys():
        yield from _compare_issuers(before.get(iss), after.get(iss))


def _compare_issuers(old: tuple[str, Issuer] | None, new: tuple[str, Issuer] | None) -> Iterator[Change]:
    if old is None or new is None:
        (name, issuer), effect = (new, Effect.OPENS) if old is None and new is not None else (old, Effect.CLOSES)  # type: ignore[misc]  # one of both is there
        what = "tokens of this issuer are taken" if old is None else "no token of this issuer is taken any more"
        yield Change(effect, f"issuers.{name}", f"{quote(issuer.issuer)}: {what}")
        return
    (was, before), (name, after) = old, new
    if was != name:
        yield Change(Effect.CHANGES, f"issuers.{name}", f"was named {was}: in metrics, logs and rules")
    for pattern in JUDGES:
        if pattern.startswith("issuers.*."):
            key = pattern.removeprefix("issuers.*.")
            values = [_value(issuer, key) if key != "jwks" else inline_keys(issuer) for issuer in (before, after)]
            yield from _compare(pattern, f"issuers.{name}.{key}", *values)


def _compare(pattern: str, about: str, old: object, new: object) -> Iterator[Change]:
    if old == new:
        return
    effect = JUDGES[pattern](old, new)
    meaning = f"; {_MEANINGS[pattern]}" if pattern in _MEANINGS and effect is not Effect.CLOSES else ""
    if pattern.endswith(".max_bytes") and isinstance(old, int) and isinstance(new, int):
        old, new = format_size(old), format_size(new)
    yield Change(effect, about, f"{_tell_difference(old, new)}{meaning}")


def _value(section: object, way: str) -> object:
    """Follow the keys of *way*; what lies in a section that is not there is None."""
    for key in way.split("."):
        section = getattr(section, key, None)
    return section


def _tell_difference(old: object, new: object) -> str:
    """Say what is new and what is gone of a list or mapping; of anything else, what it was and is."""
    if isinstance(old, tuple) and isinstance(new, tuple):
        parts = [
            f"{word} {_tell_some(found)}"
            for word, found in (("now", _less(new, old)), ("not", _less(old, new)))
            if found
        ]
        return ", ".join(parts).replace("not ", "no longer ") or "in another order"
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        named = (
            ("now", [name for name in new if name not in old]),
            ("no longer", [name for name in old if name not in new]),
            ("otherwise", [name for name in new if name in old and old[name] != new[name]]),
        )
        return ", ".join(f"{word} {_tell_some(names)}" for word, names in named if names) or "in another order"
    return f"{_tell(old)} -> {_tell(new)}"


def _less(these: tuple[object, ...], others: tuple[object, ...]) -> list[object]:
    return [value for value in these if value not in others]


def _tell_some(values: list[Any]) -> str:
    more = f" and {len(values) - _MAX_SHOWN} more" if len(values) > _MAX_SHOWN else ""
    return ", ".join(map(_tell, values[:_MAX_SHOWN])) + more


def _tell(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case timedelta():
            return format_duration(value)
        case KeySet():
            return f"keys {', '.join(key.kid or key.thumbprint for key in value.keys) or 'none'}"
        case str():
            return quote(value)[1:-1]
        case _ if hasattr(value, "model_dump"):
            given = value.model_dump(exclude_defaults=True, mode="json")
            return "{" + ", ".join(f"{key}: {quote(item)[1:-1]}" for key, item in given.items()) + "}"
        case _:
            return quote(value)[1:-1]
