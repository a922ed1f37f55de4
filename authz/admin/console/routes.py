"""The paths of the console: its pages, and the same data as JSON for `authz tail` and `authz explain --live`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from authz import __version__
from authz.admin.console import attempt, configuration, decisions, issuers, now, pressure
from authz.admin.console.access import Access
from authz.admin.console.attempt import QuestionError
from authz.admin.console.page import STYLE, STYLE_PATH, ConsoleState, Document, address
from authz.admin.routes import AdminRequest, AdminResponse, Route
from authz.telemetry.recent import MAX_ALLOWED, MAX_REFUSED, DecisionFilter

_HTML: Final = "text/html; charset=utf-8"
_JSON: Final = "application/json"
_MAX_FIELDS: Final = 32  # of a form, or of a query
_HEADERS: Final = (
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),  # with no-referrer a browser sends `Origin: null` with our own forms
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
)


class ConsoleSource(Protocol):
    """The data of the console, as JSON: of this process, or of all workers together."""

    def history(self) -> Document:
        """Return the last hour: see `LastHour.describe`."""

    def keys(self) -> Document:
        """Return the keys of all issuers."""

    def decisions(self, wanted: DecisionFilter) -> Document:
        """Return the *wanted* decisions."""

    def configuration(self, query: Mapping[str, str]) -> Document:
        """Return the configuration in use, and its rules and issuers from the positions in *query* on."""

    def pressure(self) -> Document:
        """Return the most frequent failures, the load and the losses."""

    def explain(self, question: Mapping[str, Any]) -> Document:
        """Return, under `explanations`, each step of a decision. Raises QuestionError."""

    def refresh(self, issuer: str | None) -> Mapping[str, object] | None:
        """Begin to fetch the keys of an issuer; None if it fetches none of that name."""


def make_console_routes(
    source: ConsoleSource, access: Access, *, clock: Callable[[], float], writable: bool
) -> Mapping[str, Route]:
    """Return the routes by path. Nothing can be changed unless *writable*."""
    console = _Console(source, access, clock, writable)
    page, data = console.page, console.data
    return {
        now.PATH: page(now.view, lambda _: source.history()),
        issuers.PATH: page(issuers.view, lambda _: source.keys()),
        decisions.PATH: page(decisions.view, console.decisions),
        attempt.PATH: page(attempt.view, lambda _: {}),
        configuration.PATH: page(configuration.view, source.configuration),
        pressure.PATH: page(pressure.view, lambda _: source.pressure()),
        STYLE_PATH: console.style,
        "/history": data(lambda _: source.history()),
        "/decisions": data(lambda query: source.decisions(filter_of(query))),
        "/configuration": data(source.configuration),
        "/pressure": data(lambda _: source.pressure()),
        f"POST {attempt.PATH}": console.explain_form,
        "POST /explain": console.explain,
        **({f"POST {issuers.REFRESH_PATH}": console.refresh} if writable else {}),
    }


_View = Callable[[ConsoleState], bytes]
_Read = Callable[[Mapping[str, str]], Document]


@dataclass(frozen=True, slots=True)
class _Console:
    """The routes' common parts."""

    source: ConsoleSource
    access: Access
    clock: Callable[[], float]
    writable: bool

    def page(self, view: _View, read: _Read) -> Route:
        """Return the route of a page: what is *read* of the source for its query, as *view* shows it."""

        def route(query: Mapping[str, str]) -> AdminResponse:
            return self._show(view, query, read(query))

        return self._readable(route)

    def data(self, read: _Read) -> Route:
        """Return the route of JSON data."""
        return self._readable(lambda query: _json(read(query)))

    def decisions(self, query: Mapping[str, str]) -> Document:
        """Return the decisions of a page, and one more if there are more."""
        return self.source.decisions(filter_of({**query, "limit": str(decisions.SIZE + 1)}))

    def style(self, request: AdminRequest) -> AdminResponse:
        """Answer with the style sheet."""
        refusal = self.access.refuse(request)
        return refusal or AdminResponse(HTTPStatus.OK, STYLE, "text/css; charset=utf-8", headers=_HEADERS)

    def explain_form(self, request: AdminRequest) -> AdminResponse:
        """Explain the request of a form. The page repeats it without the token."""
        form = _fields(request.body.decode("utf-8", "replace"))
        if (refusal := self.access.refuse_form(request, form.get("csrf", ""))) is not None:
            return refusal
        try:
            document = self.source.explain(attempt.question_of(form))
        except QuestionError as error:
            document = {"problem": str(error)}
        fields = {name: value for name, value in form.items() if name not in {"token", "csrf"}}
        return self._show(attempt.view, fields, document)

    def explain(self, request: AdminRequest) -> AdminResponse:
        """Explain a request in JSON."""
        if (refusal := self.access.refuse_program(request)) is not None:
            return refusal
        try:
            question = json.loads(request.body)
            if not isinstance(question, dict):
                raise QuestionError("the question is no JSON object")
            return _json(self.source.explain(question))
        except QuestionError as error:
            return AdminResponse(HTTPStatus.BAD_REQUEST, f"{error}\n".encode())
        except (ValueError, RecursionError):
            return AdminResponse(HTTPStatus.BAD_REQUEST, b"the question is not JSON\n")

    def refresh(self, request: AdminRequest) -> AdminResponse:
        """Request a fetch of an issuer's keys, and redirect to its page."""
        form = _fields(request.body.decode("utf-8", "replace"))
        if (refusal := self.access.refuse_form(request, form.get("csrf", ""))) is not None:
            return refusal
        name = form.get("issuer", "")
        if self.source.refresh(name) is None:
            return AdminResponse(HTTPStatus.NOT_FOUND, b"no keys are fetched for an issuer of this name\n")
        to = (("location", address(issuers.PATH, {"issuer": name})), *_HEADERS)
        return AdminResponse(HTTPStatus.SEE_OTHER, b"", headers=to)

    def _readable(self, route: Callable[[Mapping[str, str]], AdminResponse]) -> Route:
        return lambda request: self.access.refuse(request) or route(_fields(request.query))

    def _show(self, view: _View, query: Mapping[str, str], document: Document) -> AdminResponse:
        state = ConsoleState(
            document=document,
            now=self.clock(),
            query=query,
            csrf=self.access.csrf,
            writable=self.writable,
            version=__version__,
        )
        return AdminResponse(HTTPStatus.OK, view(state), _HTML, headers=_HEADERS)


def filter_of(query: Mapping[str, str]) -> DecisionFilter:
    """Return which decisions a *query* asks for; what it cannot mean is as if it were not there."""
    return DecisionFilter(
        **{name: query.get(name, "") for name in decisions.FILTERS},
        after=_number(query.get("after", ""), 0.0),
        before=_number(query.get("before", ""), float("inf")),
        limit=min(max(int(_number(query.get("limit", ""), float(_MAX_DECISIONS))), 1), _MAX_DECISIONS),
    )


_MAX_DECISIONS: Final = MAX_REFUSED + MAX_ALLOWED


def _number(text: str, default: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return default
    return number if 0 <= number < 1e12 else default  # no NaN either


def _fields(encoded: str) -> dict[str, str]:
    """Return the first value of each field of a query, or of a form."""
    try:
        return {
            name: values[0]
            for name, values in parse_qs(encoded, keep_blank_values=True, max_num_fields=_MAX_FIELDS).items()
        }
    except ValueError:
        return {}


def _json(document: Document) -> AdminResponse:
    return AdminResponse(HTTPStatus.OK, json.dumps(document).encode() + b"\n", _JSON, headers=_HEADERS)
