"""The view of issuers: each key set as a timeline, its keys, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from authz.admin.console.markup import Child, Markup, element
from authz.admin.console.page import (
    NONE,
    ConsoleState,
    address,
    facts,
    hidden,
    page,
    pages,
    span,
    start_of,
    table,
    warning,
)

PATH: Final = "/console/issuers"
REFRESH_PATH: Final = "/console/refresh"
SIZE: Final = 20  # issuers of a page, for each worker
MAX_KEYS: Final = 50  # shown of one issuer

_Issuer = Mapping[str, Any]


def view(state: ConsoleState) -> bytes:
    """Return the page: some issuers, or the one that is asked for."""
    issuers: Sequence[_Issuer] = state.document["issuers"]
    wanted, start = state.query.get("issuer", ""), start_of(state.query, "from")
    selected = [issuer for issuer in issuers if wanted in {"", issuer["issuer"]}]
    shown = selected if wanted else selected[start : start + SIZE]
    return page(
        PATH,
        state,
        element("p", "The keys that ", element("em", wanted), " serves by. ", element("a", "all issuers", href=PATH))
        if wanted
        else None,
        warning("No issuer of this name is configured.") if wanted and not selected else None,
        _overview(shown) if not wanted else None,
        pages(PATH, state.query, "from", start, SIZE, len(selected)) if not wanted else None,
        (_describe(issuer, state) for issuer in shown[: SIZE * 4]) if wanted else None,
    )


def _overview(issuers: Sequence[_Issuer]) -> Markup:
    rows = (
        (
            element("a", issuer["issuer"], href=address(PATH, {"issuer": issuer["issuer"]})),
            issuer.get("worker", NONE),
            issuer["iss"],
            _state(issuer),
            len(issuer["keys"]),
            len(issuer["rejected"]),
            span(issuer["age_seconds"]),
            _next(issuer),
        )
        for issuer in issuers
    )
    columns = ("name", "worker", "iss", "state", "keys", "rejected", "age", "next refresh")
    return table("Issuers", columns, rows)


def _describe(issuer: _Issuer, state: ConsoleState) -> Markup:
    worker = f", worker {issuer['worker']}" if "worker" in issuer else ""
    error = issuer["last_error"]
    keys = issuer["keys"]
    return element(
        "section",
        element("h2", f"{issuer['issuer']}{worker}"),
        facts(
            (
                ("iss", issuer["iss"]),
                ("source", issuer["source"]),
                ("state", _state(issuer)),
                ("fetched or confirmed", issuer["last_success"] or NONE),
                ("age", span(issuer["age_seconds"])),
                ("good for another", span(issuer["stale_in_seconds"])),
                ("next refresh", _next(issuer)),
                ("tokens with unknown key ids", issuer["unknown_kids"]),
                ("flaps", issuer["flaps"]),
            )
        ),
        warning(f"The last failure: {error['at']} {error['result']}: {error['text']}") if error else None,
        _refresh(issuer, state),
        table(f"Keys of {issuer['issuer']}{worker}", _KEY_COLUMNS, map(_key, keys[:MAX_KEYS]), empty="No keys."),
        element("p", f"{len(keys) - MAX_KEYS} more: authz keys") if len(keys) > MAX_KEYS else None,
        _notes(issuer),
        table(
            f"Rotations of {issuer['issuer']}{worker}",
            ("time", "what", "kid", "thumbprint"),
            (
                (event["at"], event["event"], event["kid"] or "absent", event["thumbprint"] or NONE)
                for event in issuer.get("rotations", ())
            ),
            empty="None since the start.",
        ),
    )


_KEY_COLUMNS: Final = ("kid", "thumbprint", "key", "algorithm", "first seen", "last seen", "last used", "notes")


def _key(key: Mapping[str, Any]) -> tuple[Child, ...]:
    kind = f"{key['kty']} {key['crv'] or key['size']}"
    notes = [*key.get("notes", ()), *([f"unusable: {key['not_serving']}"] if key["not_serving"] else [])]
    return (
        key["kid"] or "absent",
        key["thumbprint"] or NONE,
        kind,
        key["alg"] or "any of its kind",
        key["first_seen"] or NONE,
        key.get("last_seen") or NONE,
        key["last_used"] or "never",
        "; ".join(notes),
    )


def _notes(issuer: _Issuer) -> Markup | None:
    lines = list(_note_lines(issuer))
    if not lines:
        return None
    more = element("li", f"{len(lines) - MAX_KEYS} more: authz keys") if len(lines) > MAX_KEYS else None
    return element("ul", (element("li", line) for line in lines[:MAX_KEYS]), more)


def _note_lines(issuer: _Issuer) -> Iterator[str]:
    for key in issuer["rejected"]:
        yield f"rejected: kid {key['kid'] or 'absent'}: {key['why']}"
    for name in issuer["blocked_unmatched"]:
        yield f"blocked, and not in the set: {name}"


def _refresh(issuer: _Issuer, state: ConsoleState) -> Markup | None:
    if not state.writable or issuer["next_refresh_seconds"] is None:
        return None
    return element(
        "form",
        hidden("csrf", state.csrf),
        hidden("issuer", issuer["issuer"]),
        element("button", f"Refresh {issuer['issuer']} now", type="submit"),
        action=REFRESH_PATH,
        method="post",
    )


def _state(issuer: _Issuer) -> Markup:
    if not issuer["serving"]:
        return element("span", "no keys yet" if issuer["age_seconds"] is None else "withdrawn", class_="deny")
    return element("span", "serving", class_="allow")


def _next(issuer: _Issuer) -> str:
    seconds = issuer["next_refresh_seconds"]
    if seconds is None:
        return NONE
    return "in progress" if issuer["refreshing"] else f"in {span(seconds)}"
