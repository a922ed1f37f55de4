"""The view of the last decisions, by reason, rule, issuer, subject, client or decision id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from authz.admin.console.markup import Child, Markup, element
from authz.admin.console.page import NONE, ConsoleState, address, choice, facts, field, instant, page, table, warning
from authz.core.reasons import Reason

PATH: Final = "/console/decisions"
SIZE: Final = 100  # decisions of a page
FILTERS: Final = ("reason", "outcome", "rule", "issuer", "subject", "client", "decision_id")
_LINKS: Final = 512  # that are kept, of at most 4 KB
_OUTCOMES: Final = ("allow", "deny", "would_deny")
_LINKED: Final = {"reason": "reason", "rule": "rule", "issuer": "issuer", "subject": "subject", "client": "client"}


def view(state: ConsoleState) -> bytes:
    """Return the page."""
    query, document = state.query, state.document
    decisions: Sequence[Mapping[str, Any]] = document["decisions"]
    shown = decisions[:SIZE]
    filters = {name: query.get(name, "") for name in FILTERS}
    form = element(
        "form",
        element(
            "div",
            field("Decision id", "decision_id", filters["decision_id"]),
            choice("Reason", "reason", [reason.value for reason in Reason], filters["reason"]),
            choice("Decision", "outcome", _OUTCOMES, filters["outcome"]),
            *(field(name.capitalize(), name, filters[name]) for name in ("rule", "issuer", "subject", "client")),
            class_="fields",
        ),
        element("p", element("button", "Find", type="submit"), " ", element("a", "all", href=PATH)),
        action=PATH,
        method="get",
        role="search",
    )
    older = None
    if len(decisions) > SIZE:
        older = element("p", element("a", "older", href=address(PATH, {**filters, "before": repr(shown[-1]["at"])})))
    return page(
        PATH,
        state,
        form,
        _detail(shown[0]) if filters["decision_id"] and len(shown) == 1 else _list(shown),
        older,
        element("p", _bound(document), class_="bound"),
        warning("Nothing of it is kept here: see the audit log.") if filters["decision_id"] and not shown else None,
    )


def _bound(document: Mapping[str, Any]) -> str:
    since = document["complete_since"]
    bounds = "The last 750 denials and 250 allows of each process are kept in memory, of allows at most 250 a second"
    return f"{bounds}: all of them since {instant(since)}." if since else f"{bounds}: all since the start."


def _list(decisions: Sequence[Mapping[str, Any]]) -> Markup:
    columns = ("time", "decision", "reason", "rule", "issuer", "subject", "client", "request", "decision id")
    rows = (
        (
            instant(decision["at"]),
            _outcome(decision),
            *(_link(decision, name) for name in _LINKED),
            f"{decision.get('method', '')} {decision.get('host', '')}{decision.get('path', '')}".strip() or NONE,
            element("a", decision["decision_id"], href=address(PATH, {"decision_id": decision["decision_id"]})),
        )
        for decision in decisions
    )
    return table("Decisions", columns, rows, empty="None that is asked for.")


def _detail(decision: Mapping[str, Any]) -> Markup:
    """Return one decision with all that is recorded of it."""
    return facts(
        (
            ("time", instant(decision["at"])),
            ("decision", _outcome(decision)),
            *((name, _value(decision, name)) for name in decision if name not in {"at", "decision"}),
        )
    )


def _value(decision: Mapping[str, Any], name: str) -> Child:
    value = decision[name]
    if name in _LINKED:
        return _link(decision, name)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return NONE if value is None or value == "" else value


def _link(decision: Mapping[str, Any], name: str) -> Child:
    value = decision.get(name)
    return _link_of(name, str(value)) if value else NONE


@lru_cache(maxsize=_LINKS)
def _link_of(name: str, value: str) -> Markup:
    """Return the link to the decisions with this *value*, which a page has many times."""
    return element("a", value, href=address(PATH, {name: value}))


def _outcome(decision: Mapping[str, Any]) -> Markup:
    word = str(decision["decision"])
    return element("span", word, class_=word if word in _OUTCOMES else None)
