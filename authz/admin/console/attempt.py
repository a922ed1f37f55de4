"""The view to try a request: each step of the decision that the running sidecar would make, with its own keys.

A token that is pasted is used once: no page repeats it, and nothing keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from authz.admin.console.markup import Markup, element
from authz.admin.console.page import ConsoleState, field, hidden, page, table, warning

PATH: Final = "/console/try"
_ONE_LINE: Final = ("method", "host", "path", "scheme", "address")
_DEFAULTS: Final = {"method": "GET", "host": "localhost", "path": "/", "scheme": "https"}
_SEVERAL_LINES: Final = {
    "headers": "Headers, NAME: VALUE, one a line",
    "context": "context_extensions of the route, NAME=VALUE, one a line",
    "certificate": "Client certificate, PEM",
}


class QuestionError(ValueError):
    """Raised if a question cannot be understood; the text says why."""


def question_of(form: Mapping[str, str]) -> dict[str, object]:
    """Return the question of a *form* as JSON data. Raises QuestionError."""
    return {
        **{name: form.get(name, "").strip() or _DEFAULTS.get(name, "") for name in _ONE_LINE},
        "headers": list(_pairs(form, "headers", ":")),
        "context": dict(_pairs(form, "context", "=")),
        "certificate": form.get("certificate", "").strip(),
        "token": form.get("token", "").strip() or None,
    }


def view(state: ConsoleState) -> bytes:
    """Return the page: the form, and the explanations, of each worker."""
    explanations: Sequence[Mapping[str, Any]] = state.document.get("explanations", ())
    values = {**_DEFAULTS, **state.query}
    form = element(
        "form",
        hidden("csrf", state.csrf),
        element("div", (field(name.capitalize(), name, values.get(name, "")) for name in _ONE_LINE), class_="fields"),
        field("Token; it is used once and kept nowhere", "token", kind="textarea"),
        element(
            "details",
            element("summary", "Headers, context and certificate"),
            (field(label, name, values.get(name, ""), kind="textarea") for name, label in _SEVERAL_LINES.items()),
            open=any(values.get(name) for name in _SEVERAL_LINES),
        ),
        element("p", element("button", "Explain", type="submit")),
        action=PATH,
        method="post",
    )
    return page(
        PATH,
        replace(state, query={}),  # no link may hold what was written: among the headers may be a token
        element("p", "Decides a request as the running sidecar would, with its rules and keys of this moment."),
        warning(state.document["problem"]) if state.document.get("problem") else None,
        (_explanation(explanation) for explanation in _different(explanations)),
        form,
    )


def _different(explanations: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the first of those that say the same, with all of their workers."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for explanation in explanations:
        groups.setdefault(f"{explanation['decision']} {explanation['reason']} {explanation['detail']}", []).append(
            explanation
        )
    for alike in groups.values():
        yield {**alike[0], "workers": [str(explanation["worker"]) for explanation in alike if "worker" in explanation]}


def _explanation(explanation: Mapping[str, Any]) -> Markup:
    decision = str(explanation["decision"])
    workers = explanation["workers"]
    workers_note = f", by worker {', '.join(workers)}" if workers else ""
    verdict = element("span", f"{decision} {explanation['reason']}", class_=decision)
    detail = f": {explanation['detail']}" if explanation["detail"] else ""
    rows = ((step["number"], step["step"], step["ended"], step["looked_at"]) for step in explanation["steps"])
    notes = [
        f"need: {need['kind']} of {need['of']}: {need['answer']}"
        + (f"; question: {need['question']}" if need.get("question") else "")
        for need in explanation["needs"]
    ]
    return element(
        "section",
        element("p", verdict, detail, workers_note, role="status"),
        table(f"Steps{workers_note}", ("", "step", "ended", "looked at"), rows),
        element("ul", (element("li", note) for note in (*notes, *explanation["notes"]))),
    )


def _pairs(form: Mapping[str, str], name: str, mark: str) -> Iterator[tuple[str, str]]:
    for line in form.get(name, "").splitlines():
        key, separator, value = line.partition(mark)
        if line.strip() and (not separator or not key.strip()):
            raise QuestionError(f"{name}: a line has no {mark!r} between name and value")
        if line.strip():
            yield key.strip(), value.strip()
