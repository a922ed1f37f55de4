"""What all pages of the console have in common: the frame, the style, tables, and words for times and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from authz.admin import times
from authz.admin.console.markup import Child, Markup, element, join

Document = Mapping[str, Any]
"""JSON data of one process, or of all workers together."""

VIEWS: Final = {
    "/": "Now",
    "/console/issuers": "Issuers",
    "/console/decisions": "Decisions",
    "/console/try": "Try",
    "/console/configuration": "Configuration",
    "/console/pressure": "Pressure",
}
STYLE_PATH: Final = "/console/style.css"
STYLE: Final = Path(__file__).with_name("style.css").read_bytes()
NONE: Final = "\u2013"  # in a cell without a value


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleState:
    """All that a view depends on: its *document*, the *query* of its address, and the time, seconds since the epoch.

    *csrf* is the token for the forms of the page. Without *writable* nothing can be changed from it.
    """

    document: Document
    now: float
    query: Mapping[str, str]
    csrf: str = ""
    writable: bool = False
    version: str = ""


def page(path: str, state: ConsoleState, *content: Child) -> bytes:
    """Return the page of the view at *path*."""
    title = VIEWS[path]
    links = (
        element("a", name, href=where, aria_current="page" if where == path else None) for where, name in VIEWS.items()
    )
    silent = state.document.get("silent_workers") or []
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("title", f"{title} \u00b7 authz"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="stylesheet", href=STYLE_PATH),
    )
    body = element(
        "body",
        element("a", "Skip to content", href="#content", class_="skip"),
        element("header", element("strong", "authz"), element("nav", links, aria_label="Views")),
        element(
            "main",
            element("h1", title),
            warning(f"No answer from worker {', '.join(map(str, silent))}: it is left out.") if silent else None,
            content,
            id="content",
        ),
        element("footer", f"authz {state.version} \u00b7 as of {instant(state.now)} \u00b7 ", reload_link(path, state)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n".encode()


def reload_link(path: str, state: ConsoleState) -> Markup:
    """Return a link to the same page as it is by now."""
    return element("a", "reload", href=address(path, state.query))


def address(path: str, query: Mapping[str, object]) -> str:
    """Return the address of a view with the values of *query* that there are."""
    parameters = {name: value for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(parameters, errors='backslashreplace')}" if parameters else path


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Child]], *, empty: str = "None.") -> Markup:
    """Return a table that scrolls by itself in a narrow window, or *empty* if there are no rows."""
    body = [element("tr", (element("td", cell) for cell in row)) for row in rows]
    if not body:
        return join((element("h2", caption), element("p", empty)))
    head = element("tr", (element("th", name, scope="col") for name in columns))
    rendered = element("table", element("thead", head), element("tbody", body))
    return join(
        (
            element("h2", caption),
            element("div", rendered, class_="scroll", tabindex="0", role="region", aria_label=caption),
        )
    )


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Return names and values; a value None is left out."""
    return element(
        "dl",
        (element("div", element("dt", name), element("dd", value)) for name, value in pairs if value is not None),
    )


def warning(*content: Child) -> Markup:
    """Return a highlighted paragraph."""
    return element("p", content, class_="warning")


def preformatted(text: str, label: str) -> Markup:
    """Return text with its line breaks, which scrolls by itself."""
    return element("pre", text, tabindex="0", role="region", aria_label=label)


def field(label: str, name: str, value: object = "", *, kind: str = "text", **attributes: object) -> Markup:
    """Return a labelled field of a form; of kind `textarea`, one of several lines."""
    common = {"id": name, "name": name, "autocomplete": "off", "spellcheck": "false", **attributes}
    control = (
        element("textarea", value, **common)
        if kind == "textarea"
        else element("input", type=kind, value=value, **common)
    )
    return element("div", element("label", label, for_=name), control, class_="field")


def choice(label: str, name: str, options: Iterable[str], chosen: str) -> Markup:
    """Return a labelled choice of one of *options*, or of any."""
    items = (element("option", option or "any", value=option, selected=option == chosen) for option in ("", *options))
    return element(
        "div", element("label", label, for_=name), element("select", items, id=name, name=name), class_="field"
    )


def hidden(name: str, value: object) -> Markup:
    """Return a field that is sent and not shown."""
    return element("input", type="hidden", name=name, value=value)


def pages(path: str, query: Mapping[str, object], name: str, start: int, size: int, total: int) -> Markup | None:
    """Return links to the parts before and after the *size* entries from *start* on; None if there is only one part."""
    if total <= size:
        return None
    links = []
    if start > 0:
        links.append(element("a", "previous", href=address(path, {**query, name: max(0, start - size) or None})))
    if start + size < total:
        links.append(element("a", "next", href=address(path, {**query, name: start + size})))
    shown = f"{start + 1} to {min(start + size, total)} of {total} "
    return element("nav", element("p", shown, (join((link, " ")) for link in links)), aria_label=f"Parts of {name}")


def start_of(query: Mapping[str, str], name: str) -> int:
    """Return the position that *query* gives under *name*, 0 if it gives none."""
    value = query.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 9 else 0


def instant(seconds: float | None) -> str:
    """Write an instant as RFC 3339 does, to the second."""
    if seconds is None:
        return NONE
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def span(seconds: float | None) -> str:
    """Write a duration in its largest unit."""
    return NONE if seconds is None else times.span(seconds)
