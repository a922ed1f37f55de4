"""The view of pressure: which clients and subjects fail, what is full, and what was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from authz.admin.console.markup import Markup, element
from authz.admin.console.page import ConsoleState, address, facts, page, table

PATH: Final = "/console/pressure"
MAX_SHOWN: Final = 64


def view(state: ConsoleState) -> bytes:
    """Return the page."""
    document = state.document
    return page(
        PATH,
        state,
        facts(
            (
                ("checks in flight", f"{document['in_flight']} of at most {document['max_concurrent']}"),
                *((name, f"{count:,}") for name, count in document["lost"].items()),
                *_shared(document["shared_revocations"]),
            )
        ),
        table(
            "Networks that send bad tokens, in the last hour (throttle, risk)",
            ("network", "bad tokens", "in the last minute", "throttled by workers"),
            (
                (item["name"], f"{item['failures']:,}", f"{item['last_minute']:,}", item["throttled"])
                for item in document["networks"][:MAX_SHOWN]
            ),
        ),
        table(
            "Subjects with denials, in the last hour (risk)",
            ("issuer and subject", "denials", "in the last minute"),
            (
                (item["name"], f"{item['failures']:,}", f"{item['last_minute']:,}")
                for item in document["failing_subjects"][:MAX_SHOWN]
            ),
        ),
        _clients("Failing clients, this minute so far", document["clients"]["now"]),
        _clients("Failing clients, the minute before", document["clients"]["before"]),
        _ranked("Failing subjects, among the last denials", "subject", document["subjects"]),
        _ranked("Failing rules, among the last denials", "rule", document["rules"]),
        table(
            "Revocations",
            ("source", "entries"),
            ((source, f"{count:,}") for source, count in document["revocations"].items()),
        ),
        table(
            "Tokens with unknown key ids",
            ("issuer", "tokens since the start"),
            ((issuer, f"{count:,}") for issuer, count in document["unknown_kids"].items()),
        ),
    )


def _shared(health: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Describe whether replicas share revocations."""
    if health is not None:
        yield "shared revocations read", "never" if health["age"] is None else f"{health['age']:.0f} s ago"
        yield "revocations that other replicas lack", f"{health['pending']:,}"


def _clients(caption: str, clients: Sequence[Mapping[str, Any]]) -> Markup:
    rows = (
        (
            client["client"],
            f"{client['failures']:,}",
            f"{client['error_bound']:,}" if client["error_bound"] else "exact",
        )
        for client in clients[:MAX_SHOWN]
    )
    return table(caption, ("client, or /64 network", "denials", "of these uncertain"), rows)


def _ranked(caption: str, name: str, ranked: Sequence[Mapping[str, Any]]) -> Markup:
    rows = (
        (element("a", item["name"], href=address("/console/decisions", {name: item["name"]})), item["failures"])
        for item in ranked[:MAX_SHOWN]
    )
    return table(caption, (name, "denials"), rows)
