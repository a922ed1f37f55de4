"""The view of the configuration in use: where it differs from the file, warnings, and what Envoy needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from authz.admin.console.markup import Markup, element
from authz.admin.console.page import ConsoleState, facts, page, pages, preformatted, start_of, table, warning

PATH: Final = "/console/configuration"
SIZE: Final = 25  # rules, or issuers, of a page
MAX_SHOWN: Final = 200  # warnings


def view(state: ConsoleState) -> bytes:
    """Return the page."""
    document = state.document
    rejected = document["rejected"]
    return page(
        PATH,
        state,
        facts(
            (
                ("file", document["file"]),
                ("in use since", document["loaded_at"]),
                ("digest", document["digest"]),
                ("insecure options", len(document["insecure"]) or "none"),
            )
        ),
        _differences(document),
        warning(f"The file as it is now was rejected at {rejected['at']}, and the last one stays.")
        if rejected
        else None,
        preformatted(rejected["text"], "Why the file was rejected") if rejected else None,
        table("Insecure options", ("option", "risk"), ((item["path"], item["risk"]) for item in document["insecure"])),
        table(
            "Other warnings",
            ("where", "warning"),
            ((item["path"], item["message"]) for item in document["warnings"][:MAX_SHOWN]),
        ),
        element("p", f"{len(document['warnings']) - MAX_SHOWN} more: authz check-config")
        if len(document["warnings"]) > MAX_SHOWN
        else None,
        _entries(state, "rules"),
        _entries(state, "issuers"),
        element("h2", "Everything else"),
        preformatted(document["rest"], "Everything else"),
        element("h2", "What Envoy needs"),
        element("p", "As ", element("code", "authz envoy-config"), " prints it for this configuration."),
        preformatted(document["envoy"], "What Envoy needs"),
    )


def _differences(document: Mapping[str, Any]) -> Markup:
    return table(
        "Taken up at the next start",
        ("key", "in use", "in the file"),
        ((difference["path"], difference["running"], difference["file"]) for difference in document["needs_restart"]),
        empty="What is in use is what is in the file." if not document["rejected"] else "None.",
    )


def _entries(state: ConsoleState, kind: str) -> Markup:
    entries: Sequence[Mapping[str, Any]] = state.document[kind]
    start, total = start_of(state.query, kind), int(state.document[f"{kind}_total"])
    return element(
        "section",
        element("h2", f"{kind.capitalize()} ({total})"),
        pages(PATH, state.query, kind, start, SIZE, total),
        (
            element(
                "details",
                element("summary", entry["name"]),
                preformatted(entry["text"], f"{kind.removesuffix('s')} {entry['name']}"),
            )
            for entry in entries
        ),
    )
