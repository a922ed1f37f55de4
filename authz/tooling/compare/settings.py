"""Which settings, other than rules, allow what was denied, or deny what was allowed.

Each key of the model defines how a change of it affects requests (`Access`). Issuers are compared by their `iss`,
because tokens name it, and PDPs by their name, which rules contain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import chain
from typing import Any, Final

from authz.config.build_issuers import inline_keys
from authz.config.issuer import Issuer
from authz.config.model import Config, HeaderValue
from authz.config.pdp import Pdp
from authz.config.problems import quote
from authz.config.quantity import format_duration, format_size
from authz.config.section import Access
from authz.config.settings import SETTINGS
from authz.core.algorithms import ALGORITHMS
from authz.core.claims import normalize_type
from authz.core.key import RSA_WITHOUT_ALG
from authz.core.keys import KeySet
from authz.core.strictness import Strictness, compare_accepted, compare_all_required, compare_upper_bounds
from authz.tooling.compare.effects import Change, Effect

_MAX_SHOWN: Final = 8


def _differs(effect: Effect) -> Callable[[object, object], Effect]:
    return lambda old, new: Effect.SAME if old == new else effect


def _limit(old: float | timedelta | None, new: float | timedelta | None) -> Strictness:
    """Compare a size or duration that limits what is accepted; None means unlimited."""
    return compare_upper_bounds(
        *(bound.total_seconds() if isinstance(bound, timedelta) else bound for bound in (old, new))
    )


def _loosened(old: object, new: object) -> Effect:
    return Effect.SAME if old == new else Effect.WIDENS if new else Effect.NARROWS


def _types(old: tuple[str, ...], new: tuple[str, ...]) -> Strictness:
    return compare_accepted(map(normalize_type, old), map(normalize_type, new))


def _keys(old: KeySet | None, new: KeySet | None) -> Strictness:
    if old is None or new is None:
        return Strictness.SAME if old == new else Strictness.UNKNOWN  # keys that are not in the file
    return compare_accepted(*({key.thumbprint for key in keys.keys} for keys in (old, new)))


def _document(old: object, new: object) -> Effect:
    """Compare a document that the sidecar serves to any client, before any rule."""
    if old is None or new is None:
        return Effect(compare_upper_bounds(old is not None, new is not None).value)
    return Effect.SAME if old == new else Effect.CHANGES


def _headers(old: Mapping[str, HeaderValue], new: Mapping[str, HeaderValue]) -> Effect:
    names = Effect(compare_all_required(old, new).value)
    return Effect.CHANGES if names is Effect.SAME and old != new else names


def _denylists(old: Mapping[str, object], new: Mapping[str, object]) -> Effect:
    names = Effect(compare_all_required(old, new).value)
    return Effect.UNKNOWN if names is Effect.SAME and old != new else names


def _header(old: str | None, new: str | None) -> Effect:
    """Compare one header, which is overwritten or removed while it is configured."""
    return _headers({} if old is None else {old: HeaderValue()}, {} if new is None else {new: HeaderValue()})


EFFECT_OF: Final[Mapping[Access, Callable[[Any, Any], Strictness | Effect]]] = {
    Access.UNAFFECTED: _differs(Effect.CHANGES),
    Access.UNKNOWN: _differs(Effect.UNKNOWN),
    Access.LISTED: compare_accepted,
    Access.REQUIRED: compare_all_required,
    Access.LIMIT: _limit,
    Access.LOOSENED: _loosened,
    Access.KEYS: _keys,
    Access.TYPES: _types,
    Access.HEADER: _header,
    Access.HEADERS: _headers,
    Access.DENYLISTS: _denylists,
    Access.DOCUMENT: _document,
}
_COMPARED: Final = {path: setting for path, setting in SETTINGS.items() if setting.access is not None}


def compare_settings(old: Config, new: Config) -> Iterator[Change]:
    """Yield a change for each setting, other than rules, that differs."""
    for pattern in _COMPARED:
        if not pattern.startswith(("issuers.", "pdps.")):
            yield from _compare(pattern, pattern, _value(old, pattern), _value(new, pattern))
    for name in old.pdps.keys() & new.pdps.keys():  # what else a rule asks is compared with the rules
        yield from _compare_pdps(name, old.pdps[name], new.pdps[name])
    before, after = _by_iss(old), _by_iss(new)
    changes = (_compare_issuers(iss, before.get(iss), after.get(iss)) for iss in before.keys() | after.keys())
    yield from dict.fromkeys(chain.from_iterable(changes))  # what changed for all tenants of an issuer, once


def _compare_pdps(name: str, old: Pdp, new: Pdp) -> Iterator[Change]:
    for pattern in _COMPARED:
        if pattern.startswith("pdps.*."):
            key = pattern.removeprefix("pdps.*.")
            yield from _compare(pattern, f"pdps.{name}.{key}", _value(old, key), _value(new, key))


def _by_iss(config: Config) -> dict[str, tuple[str, Issuer]]:
    return {iss: (name, issuer) for name, issuer in config.issuers.items() for iss in issuer.accepted_issuers}


def _compare_issuers(iss: str, old: tuple[str, Issuer] | None, new: tuple[str, Issuer] | None) -> Iterator[Change]:
    if old is None or new is None:
        (name, _), effect = (new, Effect.WIDENS) if old is None and new is not None else (old, Effect.NARROWS)  # type: ignore[misc]  # one of both is there
        message = "tokens of this issuer are taken" if old is None else "no token of this issuer is taken any more"
        yield Change(effect, f"issuers.{name}", f"{iss!r}: {message}")
        return
    (was, before), (name, after) = old, new
    if was != name:
        yield Change(Effect.CHANGES, f"issuers.{name}", f"was named {was}: in metrics, logs and rules")
    for pattern in _COMPARED:
        if pattern.startswith("issuers.*."):
            key = pattern.removeprefix("issuers.*.")
            values = [_value(issuer, key) if key != "jwks" else inline_keys(issuer) for issuer in (before, after)]
            yield from _compare(pattern, f"issuers.{name}.{key}", *values)
    yield from _compare_rsa_without_alg(f"issuers.{name}.algorithms", before, after)


def _compare_rsa_without_alg(about: str, old: Issuer, new: Issuer) -> Iterator[Change]:
    """Compare the algorithms of an RSA key without alg: more than RS256 only if `algorithms` is configured."""
    wide = [_verifies_all(issuer) for issuer in (old, new)]
    if wide[0] != wide[1]:
        effect, now = (Effect.WIDENS, "now") if wide[1] else (Effect.NARROWS, "no longer")
        yield Change(effect, about, f"{now} configured: an RSA key without alg verifies more than RS256")


def _verifies_all(issuer: Issuer) -> bool:
    return issuer.algorithms_configured and any(
        ALGORITHMS[alg].kty == "RSA" and alg != RSA_WITHOUT_ALG for alg in issuer.algorithms
    )


def _compare(pattern: str, about: str, old: object, new: object) -> Iterator[Change]:
    if old == new:
        return
    setting = SETTINGS[pattern]
    values = (old, new) if setting.loose is None else (old == setting.loose, new == setting.loose)
    effect = Effect(EFFECT_OF[setting.access or Access.UNKNOWN](*values).value)
    meaning = setting.meaning or setting.risk
    meaning = f"; {meaning}" if meaning and effect is not Effect.NARROWS else ""
    if pattern.endswith(".max_bytes") and isinstance(old, int) and isinstance(new, int):
        old, new = format_size(old), format_size(new)
    yield Change(effect, about, f"{_format_difference(old, new)}{meaning}")


def _value(section: object, path: str) -> object:
    """Return the value at the dotted *path*; None in a missing section."""
    for key in path.split("."):
        section = getattr(section, key, None)
    return section


def _format_difference(old: object, new: object) -> str:
    """Describe what was added to and removed from a list or mapping; for other values, the old and new value."""
    if isinstance(old, tuple) and isinstance(new, tuple):
        parts = [
            f"{word} {_format_some(values)}"
            for word, values in (("now", _without(new, old)), ("not", _without(old, new)))
            if values
        ]
        return ", ".join(parts).replace("not ", "no longer ") or "in another order"
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        words = (
            ("now", [name for name in new if name not in old]),
            ("no longer", [name for name in old if name not in new]),
            ("otherwise", [name for name in new if name in old and old[name] != new[name]]),
        )
        return ", ".join(f"{word} {_format_some(names)}" for word, names in words if names) or "in another order"
    return f"{_format(old)} -> {_format(new)}"


def _without(values: tuple[object, ...], removed: tuple[object, ...]) -> list[object]:
    return [value for value in values if value not in removed]


def _format_some(values: list[Any]) -> str:
    more = f" and {len(values) - _MAX_SHOWN} more" if len(values) > _MAX_SHOWN else ""
    return ", ".join(map(_format, values[:_MAX_SHOWN])) + more


def _format(value: object) -> str:
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
            members = value.model_dump(exclude_defaults=True, mode="json")
            return "{" + ", ".join(f"{key}: {quote(item)[1:-1]}" for key, item in members.items()) + "}"
        case _:
            return quote(value)[1:-1]
