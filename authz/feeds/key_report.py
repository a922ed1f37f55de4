"""The report about all issuers' keys for operators, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from authz.config.diagnostics.unused_keys import why_unused
from authz.core.keys import Key, KeySet
from authz.core.snapshot import Snapshot
from authz.feeds.feed import Status
from authz.feeds.key_history import KeyHistory, show_thumbprint
from authz.feeds.key_lane import KeyFeed
from authz.feeds.key_usage import KeyUsage


def describe_keys(snapshot: Snapshot, feeds: Mapping[str, KeyFeed], usage: KeyUsage) -> dict[str, object]:
    """Describe the keys of each issuer in *snapshot*, from its feed or from the configuration."""
    described = []
    for issuer in {issuer.name: issuer for issuer in snapshot.issuers.values()}.values():
        feed = feeds.get(issuer.name)
        status = feed.feed.status() if feed is not None else None
        keys = status.value if status is not None else issuer.keys
        described.append(
            {
                "issuer": issuer.name,
                "iss": ", ".join(iss for iss, other in snapshot.issuers.items() if other.name == issuer.name),
                "source": feed.feed.source.location if feed is not None else "configuration",
                **(_describe_status(status, feed.history) if status is not None and feed is not None else _STATIC),
                "keys": [
                    {
                        **_describe_key(key),
                        "not_serving": why_unused(key, issuer.algorithms, configured=issuer.algorithms_configured),
                        "last_seen": _instant(status.last_success if status is not None else None),
                        "first_seen": _instant(feed.history.first_seen(key) if feed is not None else None),
                        "last_used": _instant(usage.last_used(issuer.name, key)),
                    }
                    for key in (keys.keys if keys is not None else ())
                ],
                "rejected": [{"kid": kid, "why": why} for kid, why in (keys.rejected if keys is not None else ())],
                "blocked_unmatched": list(keys.unmatched_blocks if keys is not None else ()),
                "rotations": [
                    {
                        "at": _instant(rotation.at),
                        "event": rotation.event,
                        "kid": rotation.kid,
                        "thumbprint": rotation.thumbprint,
                    }
                    for rotation in reversed(feed.history.rotations.copy() if feed is not None else ())
                ],
            }
        )
    return {"issuers": described}


def _describe_key(key: Key) -> dict[str, object]:
    return {
        "kid": key.kid,
        "thumbprint": show_thumbprint(key),
        "kty": key.kty,
        "crv": key.crv,
        "alg": key.alg,
        "use": "sig",  # keys with another use were rejected
        "size": key.bits,
        "notes": list(key.notes),
    }


def _describe_status(status: Status[KeySet], history: KeyHistory) -> dict[str, object]:
    failure = status.last_failure
    return {
        "serving": status.serving,
        "refreshing": status.refreshing,
        "last_success": _instant(status.last_success),
        "age_seconds": _round(status.age),
        "stale_in_seconds": _round(status.stale_in),
        "next_refresh_seconds": _round(status.next_refresh_in),
        "last_error": None
        if failure is None
        else {"at": _instant(failure.at), "result": failure.result.value, "text": failure.text},
        "unknown_kids": history.unknown_kids,
        "flaps": history.flaps,
    }


_STATIC: Mapping[str, object] = {
    "serving": True,
    "refreshing": False,
    "last_success": None,
    "age_seconds": None,
    "stale_in_seconds": None,
    "next_refresh_seconds": None,
    "last_error": None,
    "unknown_kids": 0,
    "flaps": 0,
}


def _instant(seconds: float | None) -> str | None:
    """Return a Unix time in the format of RFC 3339, in whole seconds."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
