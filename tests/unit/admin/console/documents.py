"""What the views are shown: documents of a source, with one text in every place where a text can be."""

# ruff: noqa: ANN401 - changes to a value are fields of several types
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from authz.admin.console import attempt, configuration, decisions, issuers, now, pressure
from authz.admin.console.page import ConsoleState

NOW: Final = 1_800_000_000.0
VIEWS: Final[Mapping[str, Callable[[ConsoleState], bytes]]] = {
    "now": now.view,
    "issuers": issuers.view,
    "issuer": issuers.view,
    "decisions": decisions.view,
    "decision": decisions.view,
    "try": attempt.view,
    "configuration": configuration.view,
    "pressure": pressure.view,
}
QUERIES: Final = {"issuer": ("issuer",), "decision": ("decision_id",), "decisions": ("subject", "reason", "outcome")}


def state(view: str, text: str = "x", **changes: Any) -> ConsoleState:
    """Return the state for *view* with *text* in every place."""
    return ConsoleState(
        **{
            "document": document(view, text),
            "now": NOW,
            "query": dict.fromkeys(QUERIES.get(view, ()), text),
            "csrf": text,
            "writable": True,
            "version": text,
            **changes,
        }
    )


def document(view: str, text: str = "x") -> dict[str, Any]:
    """Return the document that *view* shows."""
    documents: Mapping[str, Callable[[str], dict[str, Any]]] = {
        "now": history,
        "issuers": lambda text: {"issuers": [issuer(text)], "silent_workers": [3]},
        "issuer": lambda text: {"issuers": [issuer(text)]},
        "decisions": lambda text: {"decisions": [decision(text), {**decision(text), "at": 1.0}], "complete_since": 1.5},
        "decision": lambda text: {"decisions": [decision(text)], "complete_since": 0.0},
        "try": lambda text: {"explanations": [explanation(text), {**explanation(text), "worker": 2}], "problem": text},
        "configuration": config,
        "pressure": pressed,
    }
    return documents[view](text)


def history(text: str) -> dict[str, Any]:
    """Two steps with decisions, and one without."""
    step = {
        "ends": 1_800_000_000,
        "seconds": 10.0,
        "reasons": {text: 3, "public": 5},
        "would_deny": 1,
        "durations": [5, 3, 1],
        "cancelled": 2,
        "in_flight": 4,
        "rss_bytes": 60_000_000,
    }
    quiet = {**step, "reasons": {}, "would_deny": 0, "durations": [0, 0, 0]}
    return {"buckets": [0.001, 0.1], "steps": [step, quiet, step], "waiting_for": [text]}


def issuer(text: str, *, keys: int = 1) -> dict[str, Any]:
    """An issuer that failed once, with a key, a rejected and a blocked one, and a rotation."""
    key = {
        "kid": text,
        "thumbprint": text,
        "kty": text,
        "crv": text,
        "alg": text,
        "size": 256,
        "notes": [text, text],
        "not_serving": text,
        "first_seen": text,
        "last_seen": text,
        "last_used": text,
    }
    return {
        "issuer": text,
        "iss": text,
        "source": text,
        "serving": True,
        "refreshing": False,
        "last_success": text,
        "age_seconds": 75.0,
        "stale_in_seconds": 86_000.0,
        "next_refresh_seconds": 400.0,
        "last_error": {"at": text, "result": text, "text": text},
        "unknown_kids": 3,
        "flaps": 1,
        "keys": [key] * keys,
        "rejected": [{"kid": text, "why": text}],
        "blocked_unmatched": [text],
        "rotations": [{"at": text, "event": text, "kid": text, "thumbprint": text}],
        "worker": 1,
    }


def decision(text: str) -> dict[str, Any]:
    """A decision with every field that there may be."""
    texts = ("decision", "reason", "detail", "decision_id", "rule", "issuer", "alg", "kid", "claimed_issuer")
    more = ("request_id", "method", "host", "path", "client", "subject")
    lists = {"audience": [text, text], "expected_audience": [text]}
    return {"at": NOW, "duration_us": 120, "worker": 1, **dict.fromkeys((*texts, *more), text), **lists}


def explanation(text: str) -> dict[str, Any]:
    """An explanation of one step, with a need and a note."""
    return {
        **dict.fromkeys(("decision", "reason", "detail", "rule", "issuer", "subject"), text),
        "steps": [{"number": 1, "step": text, "looked_at": text, "ended": text}],
        "needs": [{"kind": text, "of": text, "asked": text, "answer": text}],
        "notes": [text],
        "worker": 1,
    }


def config(text: str) -> dict[str, Any]:
    """A configuration whose file was rejected, with all that can be said about one."""
    return {
        **dict.fromkeys(("file", "loaded_at", "digest", "rest", "envoy"), text),
        "rejected": {"at": text, "text": text},
        "needs_restart": [{"path": text, "running": text, "file": text}],
        "insecure": [{"path": text, "risk": text}],
        "warnings": [{"path": text, "message": text}],
        "rules": [{"name": text, "text": text}],
        "rules_total": 120,
        "issuers": [{"name": text, "text": text}],
        "issuers_total": 1,
    }


def pressed(text: str) -> dict[str, Any]:
    """Someone fails everywhere."""
    client = {"client": text, "failures": 3_000, "error_bound": 2}
    ranked = [{"name": text, "failures": 4}]
    return {
        "in_flight": 3,
        "max_concurrent": 256,
        "lost": {text: 5},
        "clients": {"now": [client], "before": [{**client, "error_bound": 0}]},
        "networks": [{"name": text, "failures": 40, "last_minute": 30, "throttled": 1}],
        "failing_subjects": [{"name": text, "failures": 4, "last_minute": 3}],
        "subjects": ranked,
        "rules": ranked,
        "revocations": {text: 3},
        "shared_revocations": {"age": 1.5, "pending": 7, "failure": text},
        "unknown_kids": {text: 2},
    }
